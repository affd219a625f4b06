import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import cost
from optnet_jax.inspect.summary import activation_bytes, summarize
from optnet_jax.networks import create
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.recurrences import Nesterov
from optnet_jax.recurrences.base import TwoIterates
from optnet_jax.structures import Equilibrium

SMALL = {"stage_sizes": (2, 3), "widths": (4, 8)}


def _activations(name, image_shape=(8, 8, 3), batch_size=4, **fields):
    network = create(name, **fields)
    variables = cost(network, image_shape).variables
    return activation_bytes(network, variables, image_shape, batch_size)


def test_table_of_an_hb_net():
    text = summarize(create("hb_net", **SMALL, learned=("beta2",)), (8, 8, 3), 16)
    table, memory = text.split("\n\n")[1:]
    assert table.splitlines() == [
        "part       output  parameters  multiply-adds  method",
        "stem_conv  8x8x4          108          6,912",
        "stem_norm  8x8x4            8              0",
        "stage_0    8x8x4          610         36,864  "
        "2 steps of HeavyBall; beta1 1; beta2 -1 learned",
        "stage_1    4x4x8        3,266         50,688  "
        "transition; 2 steps of HeavyBall; beta1 1; beta2 -1 learned",
        "head       10              90             80",
        "total                   4,082         94,544",
    ]
    assert memory.startswith("training memory at batch 16: about ")


class Own(TwoIterates):
    """A user's own, whose coefficients JAX computes; a summary is traced."""

    def coefficients(self, depth):
        return {"rate": jnp.linspace(0.5, 1, depth)}

    def step(self, transform, state, c):
        return c["rate"] * transform(state[0]) + state[1], state[0]


def test_coefficients_of_jax_are_numbers_in_a_summary():
    text = summarize(RecurrenceNet(Own(), **SMALL), (8, 8, 3))
    assert "2 steps of Own; rate 0.5..1\n" in text


def test_coefficients_that_vary_show_their_range():
    text = summarize(create("nesterov_net", stage_sizes=(4,), widths=(4,)), (8, 8, 3))
    assert "4 steps of Nesterov; beta1 1..1.434; beta2 -0.434..0\n" in text


def test_dense_stages_show_their_iterates():
    network = create("agd_net", stage_sizes=(2, 1), growth_rate=4)
    text = summarize(network, (8, 8, 3))
    assert "8x8x16 + 2 x (8x8x4)" in text
    assert "2 steps of HistorySum; alpha 1 learned; beta 0.1" in text
    assert "1 step of HistorySum" in text


class Implicit(nn.Module):
    """A user's own: a parameter of its own, and T in a loop."""

    @nn.compact
    def __call__(self, images, train=False):
        del train
        w = self.param("w", nn.initializers.ones, (12, 8))
        b = jnp.einsum("nhwc,cd->nd", images[:, :1, :1], w[:3]) + 1
        solve = Equilibrium(Nesterov(), lambda x, w, b: x @ w + b, name="limit")
        x = solve(jnp.zeros_like(b), w[:8], b)
        return nn.Dense(5, name="head")(x + b @ w[:8] @ w[:8].T)


def test_parts_add_up_to_the_total():
    found = cost(create("agd_net", stage_sizes=(2, 1), growth_rate=4), (8, 8, 3))
    assert sum(found.parts.values()) == found.multiply_adds
    # T is evaluated for the residual, once more for the step, and at x* in the end.
    assert summarize(Implicit(), (4, 4, 3)).split("\n\n")[1].splitlines() == [
        "part      output  parameters  multiply-adds  method",
        "limit     8                0            192  "
        "up to 1000 steps of Nesterov, of which one is counted",
        "head      5               45             40",
        "the rest                  96            152",
        "total                    141            384",
    ]


def test_activations_are_what_the_backward_pass_needs():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return jnp.exp(nn.Dense(5, use_bias=False)(images))

    variables = cost(Network(), (2, 2, 3)).variables
    # exp is its own derivative; the images and the kernel are there anyway.
    assert activation_bytes(Network(), variables, (2, 2, 3), 7) == 7 * 4 * 5 * 4


def test_activations_grow_with_the_batch_and_shrink_with_remat_and_reversible():
    fields = {"stage_sizes": (10,), "widths": (4,), "unroll": False}
    plain = _activations("hb_net", **fields)
    assert _activations("hb_net", batch_size=8, **fields) > 1.9 * plain
    remat = _activations("hb_net", remat=True, **fields)
    reversible = _activations("hb_net", reversible=True, **fields)
    assert reversible < 0.7 * remat < 0.5 * plain
    deeper = {**fields, "stage_sizes": (20,)}
    grown = _activations("hb_net", reversible=True, **deeper)
    assert grown < 1.05 * reversible


def test_memory_does_not_count_the_weights_twice():
    network = create("lenet5", hidden=(4096,))
    variables = cost(network, (32, 32, 1)).variables
    weights = sum(leaf.size * 4 for leaf in jax.tree.leaves(variables))
    assert activation_bytes(network, variables, (32, 32, 1), 1) < weights / 10


def test_images_that_do_not_fit_are_one_clear_error():
    with pytest.raises(InputError, match="at least 4x4"):
        summarize(create("hb_net20"), (2, 2, 3))


def test_shared_layers_are_traced_once_at_any_depth():
    """Neither depth nor sharing writes the layers out: as many traces as for two."""

    def traces(depth):
        calls = []

        def count(call, args, kwargs, context):
            calls.append(context.method_name)
            return call(*args, **kwargs)

        network = create(
            "hb_net", stage_sizes=(depth,), widths=(4,), tied=True, unroll=False
        )
        with nn.intercept_methods(count):
            summarize(network, (8, 8, 3), 1)
        return len(calls)

    assert traces(5000) == traces(20)
