import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax.configuration.train import Optimizer
from optnet_jax.errors import InputError
from optnet_jax.training.optimizer import check_excluded, create_optimizer


def config(**changes):
    return Optimizer(**{"weight_decay": 1e-2, **changes})


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("nesterov", [True, False])
def test_three_steps_by_hand(nesterov):
    rates = [0.1, 0.1, 0.01]
    schedule = lambda step: jnp.array(rates)[step]  # noqa: E731
    gradients = [1.5, -0.5, 2.0]
    p, v = 3.0, 0.0
    for rate, g in zip(rates, gradients, strict=True):
        d = g + 1e-2 * p
        v = 0.9 * v + d
        p -= rate * (d + 0.9 * v if nesterov else v)
    optimizer = create_optimizer(config(nesterov=nesterov), schedule)
    params = run(
        optimizer,
        {"w": jnp.array(3.0)},
        [{"w": jnp.array(g)} for g in gradients],
    )
    np.testing.assert_allclose(params["w"], p, rtol=1e-12)


def test_every_parameter_decays_unless_excluded():
    params = {"bn": {"scale": jnp.ones(2)}, "conv": {"kernel": jnp.ones(2)}}
    params["alpha"] = jnp.ones(2)
    zero = jax.tree.map(jnp.zeros_like, params)
    moved = run(create_optimizer(config(), lambda _: 1.0), params, [zero])
    for leaf in jax.tree.leaves(moved):
        np.testing.assert_allclose(leaf, 1 - 1e-2 * 1.9, rtol=1e-6)
    optimizer = create_optimizer(
        config(decay_exclude=("scale", "alpha")), lambda _: 1.0
    )
    moved = run(optimizer, params, [zero])
    np.testing.assert_array_equal(moved["bn"]["scale"], 1)
    np.testing.assert_array_equal(moved["alpha"], 1)
    np.testing.assert_allclose(moved["conv"]["kernel"], 1 - 1e-2 * 1.9, rtol=1e-6)


def test_an_excluded_name_is_that_of_a_parameter():
    params = {"bn": {"scale": 1, "bias": 1}, "head": {"kernel": 1, "bias": 1}}
    check_excluded(("bias", "scale"), params)
    for name in ("Bias", "bais", "params.head.bias", "head", "bias,scale"):
        match = f"has '{name}', which .* no parameter: choose from bias, kernel, scale"
        with pytest.raises(InputError, match=match):
            check_excluded(("bias", name), params)


def test_adamw_takes_its_decay_decoupled_and_adam_in_the_gradient():
    """Adam's first step is the sign of what it takes for the gradient."""
    params = {"kernel": jnp.array([2.0, 2.0]), "bias": jnp.array([2.0, 2.0])}
    gradients = [{"kernel": jnp.array([0.01, -0.03]), "bias": jnp.array([0.01, -0.03])}]
    excluded = {"decay_exclude": ("bias",), "options": "eps=0.0"}
    decoupled = config(name="adamw", **excluded)
    moved = run(create_optimizer(decoupled, lambda _: 0.1), params, gradients)
    steps = np.array([0.1, -0.1])
    np.testing.assert_allclose(moved["bias"], 2 - steps, rtol=1e-6)
    np.testing.assert_allclose(moved["kernel"], 2 - steps - 0.1 * 0.02, rtol=1e-6)
    coupled = config(name="adam", weight_decay=0.02, **excluded)
    moved = run(create_optimizer(coupled, lambda _: 0.1), params, gradients)
    np.testing.assert_allclose(moved["bias"], 2 - steps, rtol=1e-6)
    # -0.03 + 0.02 · 2 is above 0.
    np.testing.assert_allclose(moved["kernel"], [1.9, 1.9], rtol=1e-6)


def test_the_gradient_is_cut_before_the_decay_is_added():
    params = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    plain = config(momentum=0.0, nesterov=False, clip_norm=1.0)
    moved = run(create_optimizer(plain, lambda _: 1.0), params, [{**params}])
    np.testing.assert_allclose(moved["a"], 3 - 3 / 5 - 0.03, rtol=1e-6)
    np.testing.assert_allclose(moved["b"], 4 - 4 / 5 - 0.04, rtol=1e-6)


WRONG = {
    "adamm": ({"name": "adamm"}, "nadam, .*did you mean 'adam'"),
    "no optimiser": ({"name": "softmax_cross_entropy"}, "is unknown"),
    "an option of another": ({"name": "adam", "options": "decay=0.9"}, "has b1, b2"),
    "no value": ({"name": "adam", "options": "b1"}, "write name=value"),
    "twice": ({"name": "adam", "options": "b1=0.1,b1=0.2"}, "each name once"),
    "a field": ({"name": "adamw", "options": "mask=None"}, "write name=value"),
    "sgd's field": ({"options": "momentum=0.5"}, "write name=value"),
    "a text": (
        {"name": "adam", "options": "b1=high"},
        "cannot be used with options",
    ),
    "a decay rate": (
        {"name": "adam", "options": "b1=2"},
        r"with options='b1=2' \(b1=2 must be at least 0 and below 1\)$",
    ),
    "a decay rate of 1": ({"name": "adadelta", "options": "rho=1"}, "rho=1 must be"),
    "a momentum that is none by default": (
        {"name": "rmsprop", "options": "momentum=-1"},
        "momentum=-1 must be",
    ),
    "a negative number": ({"name": "adam", "options": "eps=-1"}, "eps=-1 must be at"),
    "an infinite one": ({"name": "adam", "options": "eps=1e400"}, "eps=inf must be"),
    "none in float32": ({"name": "adam", "options": "eps=1e39"}, r"at most 1e\+38"),
    "no type": ({"name": "adam", "options": "mu_dtype=foo"}, "'foo' not understood"),
    "no number": ({"name": "adam", "options": "b1=nan"}, "b1='nan' must be a finite"),
    "no switch": ({"name": "adam", "options": "nesterov=3"}, "nesterov=3 must be True"),
    "a closure": ({"name": "lbfgs"}, "optax.lbfgs cannot be used"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_optax_does_not_take_is_said_in_one_line(case):
    changes, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        create_optimizer(config(**changes), lambda _: 0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", "b1=0,b2=0.9,eps=0,nesterov=True,mu_dtype=bfloat16"),
        ("rmsprop", "momentum=None,initial_scale=1"),
        ("optimistic_gradient_descent", "beta=1.5"),
        ("adafactor", "min_dim_size_to_factor=8,clipping_threshold=None"),
    ],
)
def test_what_an_optimiser_can_use_is_taken(name, options):
    create_optimizer(config(name=name, options=options), lambda _: 0.1)


def test_momentum_is_of_sgd():
    with pytest.raises(InputError, match="momentum and nesterov are of sgd"):
        config(name="adam", momentum=0.8)


def test_an_optimizer_whose_mask_is_a_switch_by_default_is_taken():
    optimizer = create_optimizer(Optimizer(name="lars"), lambda _: 0.1)
    params = {"kernel": jnp.ones(3)}
    optimizer.update(params, optimizer.init(params), params)
