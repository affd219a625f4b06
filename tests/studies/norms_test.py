import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import networks
from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, HeavyBall, HistorySum
from optnet_jax.structures import (
    FullyConnected,
    Pairwise,
    Propagation,
    ReversiblePropagation,
)
from optnet_jax.studies import norms


def measure(recurrence, transform, depth, **fields):
    module = Propagation(recurrence, transform, depth, unroll=True, **fields)
    x0 = jnp.ones((2, 3))
    return norms.measure(module, module.init(jax.random.key(0), x0), x0, jnp.sum)


def test_a_layer_that_doubles_is_measured_and_warned_of():
    found = measure(GradientDescent(), lambda x: 2 * x, 5)
    np.testing.assert_allclose(found.signal, [2, 4, 8, 16, 32])
    np.testing.assert_allclose(found.gradient, [16, 8, 4, 2, 1])
    assert found.signal_growth == pytest.approx(2)
    assert found.gradient_growth == pytest.approx(2)
    assert found.warnings("GD") == [
        "GD amplifies its signal: x 2 a layer, x 32 over 5 layers",
        "GD amplifies its gradient: x 2 a layer, x 32 over 5 layers",
    ]
    assert found.warnings("GD", tolerance=1.1) == []


def test_hb_net_by_itself_is_periodic_and_not_warned_of():
    """T = 0: x_0 = x_{-1} gives 0, -1, -1, 0, 1, 1, ... from x_1 = x_0 - x_{-1} on."""
    found = measure(HeavyBall(1, -1), lambda x: 0 * x, 12)
    np.testing.assert_allclose(found.signal, [0, 1, 1] * 4, atol=1e-6)
    # Through (x_k, x_{k-1}): bounded, and 6-periodic too.
    np.testing.assert_allclose(found.gradient[6:], found.gradient[:6], rtol=1e-5)
    assert found.warnings("HB-Net") == []


def test_resnet_by_itself_hands_on_signal_and_gradient():
    found = measure(HeavyBall(1, 0), lambda x: 0 * x, 6)
    np.testing.assert_allclose(found.signal, 1)
    # The state is (x_k, x_{k-1}) and its second half is not used.
    np.testing.assert_allclose(found.gradient[:-1], np.sqrt(1 / 2), rtol=1e-6)


def test_what_counts_steps_has_no_gradient():
    class Counting(GradientDescent):
        def init(self, x0):
            return x0, 0

        def step(self, transform, state, c):
            x, k = state
            return transform(x) * (k + 1), k + 1

        def output(self, state):
            return state[0]

    found = measure(Counting(), lambda x: x, 3)
    np.testing.assert_allclose(found.signal, [1, 2, 6])
    np.testing.assert_allclose(found.gradient, [6, 3, 1])


def test_the_gradient_is_that_of_the_layers_output():
    """Against differentiating the tail of the network by hand."""
    module = Propagation(GradientDescent(), FullyConnected(), 3, unroll=True)
    x0 = jax.random.normal(jax.random.key(1), (4, 5))
    variables = module.init(jax.random.key(0), x0)
    found = norms.measure(module, variables, x0, lambda y: jnp.sum(y**2))
    kernels = [
        variables["params"][f"layer_{k}"]["transform"]["linear"]["kernel"]
        for k in range(3)
    ]

    def tail(x, k):
        for kernel in kernels[k:]:
            x = jax.nn.sigmoid(x @ kernel)
        return jnp.sum(x**2)

    x = x0
    for k, kernel in enumerate(kernels):
        x = jax.nn.sigmoid(x @ kernel)
        expected = jax.grad(tail)(x, k + 1)
        rms = float(jnp.sqrt(jnp.mean(expected**2)))
        assert found.gradient[k] == pytest.approx(rms, rel=1e-5)
        assert found.signal[k] == pytest.approx(norms.root_mean_square(x), rel=1e-5)


def test_a_whole_network_is_measured_unit_by_unit():
    network = networks.create("hb_net", stage_sizes=(2, 3), widths=(4, 8))
    images = jnp.ones((2, 8, 8, 1))
    variables = network.init(jax.random.key(0), images, train=False)
    found = norms.measure(
        network, variables, images, lambda logits: logits[:, 0].sum(), train=True
    )
    # The second stage's first unit is its transition.
    assert found.signal.shape == found.gradient.shape == (2 + 2,)
    assert (found.signal > 0).all()
    assert (found.gradient > 0).all()


LAYER = FullyConnected()
ONE_BY_ONE = "with unroll=True, without remat and not reversible"


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        (Propagation(GradientDescent(), LAYER, 3), ONE_BY_ONE),
        (Propagation(GradientDescent(), LAYER, 3, unroll=True, remat=True), ONE_BY_ONE),
        (ReversiblePropagation(HeavyBall(1, -1), LAYER, 3), ONE_BY_ONE),
        (Propagation(HistorySum(), Pairwise(LAYER), 3), "HistorySum takes the whole"),
        (LAYER, "no layer that is a step"),
    ],
    ids=["scanned", "recomputed", "reversible", "history", "none"],
)
def test_layers_that_cannot_be_measured_are_refused(module, cause):
    x0 = jnp.ones((1, 2))
    variables = module.init(jax.random.key(0), x0)
    with pytest.raises(InputError, match=cause):
        norms.measure(module, variables, x0, jnp.sum)


def test_growth_needs_two_norms():
    assert np.isnan(norms.fit_growth(np.array([1.0, 0.0, np.inf])))
