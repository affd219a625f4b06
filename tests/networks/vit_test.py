"""Vision transformers against NumPy, written from the published equations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optnet_jax.errors import InputError
from optnet_jax.inspect.figure import network_structures
from optnet_jax.inspect.summary import summarize
from optnet_jax.networks import create
from optnet_jax.recurrences import (
    HeavyBall,
    Nesterov,
    TripleMomentum,
    TwoPath,
    heavy_ball,
    momentum,
)
from optnet_jax.structures import stack_layers

FIELDS = {"depth": 2, "width": 8, "heads": 2, "patch_size": 4, "num_classes": 5}
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 3))
erf = np.vectorize(math.erf)


def norm(x, p):
    deviation = x - x.mean(-1, keepdims=True)
    std = np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-6)
    return deviation / std * p["scale"] + p["bias"]


def attention(x, p):
    x, p = norm(x, p["norm"]), p["attention"]
    q, k, v = (
        np.einsum("bnd,dhe->bhne", x, p[name]["kernel"])
        + p[name]["bias"][None, :, None]
        for name in ("query", "key", "value")
    )
    scores = np.einsum("bhne,bhme->bhnm", q, k) / math.sqrt(q.shape[-1])
    weights = np.exp(scores)
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhnm,bhme->bnhe", weights, v)
    return np.einsum("bnhe,hed->bnd", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def mlp(x, p):
    x = norm(x, p["norm"]) @ p["dense_0"]["kernel"] + p["dense_0"]["bias"]
    x = x * (1 + erf(x / math.sqrt(2))) / 2
    return x @ p["dense_1"]["kernel"] + p["dense_1"]["bias"]


def branches(params):
    """A and M of each layer, in the order in which they are applied."""
    found = []
    for k in range(FIELDS["depth"]):
        layer = params["encoder"][f"layer_{k}"]
        if "transform" in layer:
            parts = layer["transform"]
            a, m = parts["branches_0"], parts["branches_1"]
        else:
            a, m = (layer[f"transform_{i}"]["branches_0"] for i in range(2))
        found += [
            lambda x, p=a: attention(x, p),
            lambda x, p=m: mlp(x, p),
        ]
    return found


def tokens(params):
    kernel, b = params["stem"]["conv"]["kernel"], len(IMAGES)
    patches = IMAGES.reshape(b, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    x = patches.reshape(b, 6, -1) @ kernel.reshape(-1, 8)
    x = x + params["stem"]["conv"]["bias"]
    token = np.broadcast_to(params["stem"]["class_token"], (b, 1, 8))
    return np.concatenate([token, x], 1) + params["stem"]["position"]


def transformer(x, gs):
    for g in gs:
        x = x + g(x)
    return x


def layers(gs):
    return [lambda x, i=i: transformer(x, gs[i : i + 2]) for i in range(0, len(gs), 2)]


def heavy_ball_of_layers(x, gs):
    previous = x
    for t in layers(gs):
        x, previous = t(x) + 0.4 * (x - previous), x
    return x


def hb_net_of_branches(x, gs):
    previous = x
    for g in gs:
        x, previous = g(x) + x - previous, x
    return x


def nesterov_in_turn(x, gs):
    previous = x
    for g, beta in zip(gs, np.asarray(momentum(len(gs))), strict=True):
        y = x + beta * (x - previous)
        x, previous = y + g(y), x
    return x


def yurii(x, gs, alpha=0.7, beta=0.8, gamma=0.5, delta=0.0):
    v = np.zeros_like(x)
    for g in gs:
        v = beta * v + alpha * g(x + gamma * v)
        x = x + v
    return x + delta * v


class Damped:
    """A user's own: x + G(x), and a tenth of all that was added so far."""

    def coefficients(self, depth):
        return {"share": np.full(depth, 0.1)}

    def init(self, x0):
        return x0, x0

    def step(self, transform, state, c):
        x, start = state
        return transform(x) + c["share"] * (x - start), start

    def output(self, state):
        return state[0]


def damped(x, gs):
    start = x
    for g in gs:
        x = x + g(x) + 0.1 * (x - start)
    return x


COEFFICIENTS = {"alpha": 0.7, "beta": 0.8, "gamma": 0.5}
CASES = {
    "default": ("vit", {}, transformer),
    "in turn": ("vit", {"splitting": "in_turn"}, transformer),
    "gradient descent": ("vit", {"recurrence": "gd"}, transformer),
    "heavy ball": ("vit", {"recurrence": heavy_ball(0.4)}, heavy_ball_of_layers),
    "its relaxed form": (
        "vit",
        {"recurrence": HeavyBall(1.4, -0.4)},
        heavy_ball_of_layers,
    ),
    "HB-Net": (
        "vit",
        {"recurrence": HeavyBall(1, -1), "skip": False, "splitting": "in_turn"},
        hb_net_of_branches,
    ),
    "Nesterov": (
        "vit",
        {"recurrence": Nesterov(), "splitting": "in_turn", "unroll": True},
        nesterov_in_turn,
    ),
    "YuriiFormer": ("yurii_vit", COEFFICIENTS, yurii),
    "triple momentum": (
        "vit",
        {"recurrence": TripleMomentum(0.7, 0.8, 0.5, 0.3), "splitting": "in_turn"},
        lambda x, gs: yurii(x, gs, delta=0.3),
    ),
    "own": ("vit", {"recurrence": Damped(), "splitting": "in_turn"}, damped),
}


@pytest.mark.parametrize("case", CASES)
def test_every_form_is_the_published_equation(float64, random_variables, case):
    name, fields, method = CASES[case]
    network = create(name, **FIELDS, **fields)
    images = jnp.asarray(IMAGES)
    variables = random_variables(network, images)
    params = jax.tree.map(np.asarray, variables["params"])
    for coefficient, value in COEFFICIENTS.items():
        if coefficient in params["encoder"]:
            shape = params["encoder"][coefficient].shape
            params["encoder"][coefficient] = np.full(shape, value)
    x = method(tokens(params), branches(params))
    expected = norm(x, params["norm"])[:, 0] @ params["head"]["kernel"]
    found = jax.jit(network.apply)({"params": params}, images)
    np.testing.assert_allclose(found, expected + params["head"]["bias"], rtol=1e-9)


def test_the_mean_of_the_tokens_scanned_and_rematerialised(random_variables):
    images = jnp.asarray(IMAGES, jnp.float32)
    network = create("vit", **FIELDS, pool="mean", splitting="in_turn")
    variables = random_variables(network, images)
    assert "class_token" not in variables["params"]["stem"]
    scanned = network.clone(unroll=False, remat=True)
    np.testing.assert_allclose(
        jax.jit(scanned.apply)(stack_layers(variables), images),
        jax.jit(network.apply)(variables, images),
        atol=1e-5,
    )


def test_parameters_do_not_depend_on_the_method():
    shapes = [
        jax.eval_shape(create("vit", **FIELDS, recurrence=r).init, jax.random.key(0), x)
        for r in (HeavyBall(1, 0), "agd", TripleMomentum())
        for x in [jnp.asarray(IMAGES, jnp.float32)]
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_branch_is_dropped_for_an_image_as_a_whole():
    """With one layer and nothing else random an image has four outcomes."""
    fields = {**FIELDS, "depth": 1, "drop_path": 0.5, "recurrence": "agd"}
    network = create("vit", **fields)
    images = jnp.asarray(IMAGES, jnp.float32)
    variables = network.init(jax.random.key(0), images)

    def run(key):
        return network.apply(variables, images, train=True, rngs={"dropout": key})

    drawn = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 40))
    first, second = (np.round(drawn[:, i, 0], 4).tolist() for i in range(2))
    assert len(set(first)) == len(set(second)) == 4
    assert len(set(zip(first, second, strict=True))) > 8  # not of the batch


def test_a_sharded_batch_gives_the_same():
    network = create("vit", **{**FIELDS, "depth": 1})
    images = jnp.asarray(np.tile(IMAGES, (4, 1, 1, 1)), jnp.float32)
    variables = network.init(jax.random.key(0), images)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    run = jax.jit(network.apply)
    found = run(variables, spread)
    assert found.sharding.spec == PartitionSpec("data")
    np.testing.assert_allclose(found, run(variables, images), atol=1e-5)


def test_its_table_and_its_picture_say_what_it_runs():
    network = create("yurii_vit", **FIELDS)
    table = summarize(network, (8, 12, 3), 4)
    assert "4 steps of TripleMomentum; alpha 1 learned; beta 0.9 learned" in table
    assert "7x8" in table
    (structure,) = network_structures(network).values()
    assert sum(node.is_transform for node in structure.nodes) == 4


class Own:
    """A user's method, whose step asks for what arrays of JAX alone have."""

    def __init__(self, name="a"):
        self.name = name

    def coefficients(self, depth):
        return {"a": np.ones(depth)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return state.at[...].add(c[self.name] * transform(state))

    def output(self, state):
        return state


def test_a_users_own_method_is_run_as_the_network_runs_it(random_variables):
    images = jnp.asarray(IMAGES, jnp.float32)
    own, same = (
        create("vit", **{**FIELDS, "recurrence": method})
        for method in (Own(), HeavyBall(1.0, 0.0))
    )
    variables = random_variables(same, images)
    np.testing.assert_allclose(
        own.apply(variables, images), same.apply(variables, images), atol=1e-5
    )


@pytest.mark.parametrize("depth", [2, 1000])
def test_deep_methods_keep_x_but_for_rounding(depth):
    create("vit", **{**FIELDS, "depth": depth, "recurrence": Nesterov()})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "width=8 must be a multiple of heads=3"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"recurrence": HeavyBall(0.5, 0.1)}, "HeavyBall keeps x .* say skip=False"),
        ({"recurrence": "agd_net"}, "recurrence='agd_net' must be a recurrence"),
        ({"recurrence": "hb_tuned"}, "needs μ"),
        ({"recurrence": "agd", "reversible": True}, "Nesterov has no such form"),
        (
            {"recurrence": "leapfrog", "reversible": True, "splitting": "in_turn"},
            "reversible excludes transforms in turn",
        ),
        ({"shared": True}, "shared means nothing where no coefficient is learned"),
        ({"recurrence": Own("b")}, "Own.step looks up 'b', and Own.coefficients ret"),
        (
            {"recurrence": type("Bare", (Own,), {"coefficients": lambda self: {}})()},
            r"Bare.coefficients is called with \(depth\)",
        ),
        ({"pool": "max"}, "^pool="),
    ],
)
def test_fields_that_do_not_fit_are_one_line(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        create("vit", **{**FIELDS, **fields})
    assert "\n" not in str(caught.value)


def test_images_that_do_not_fit_are_one_line():
    network = create("vit", **FIELDS)
    images = jnp.asarray(IMAGES, jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    apply = jax.eval_shape
    with pytest.raises(InputError, match="8x8 make 5 tokens, .* positions for 7"):
        apply(network.apply, variables, images[:, :, :8])
    with pytest.raises(InputError, match="8x10 are not tiled by patches of 4"):
        apply(network.apply, variables, images[:, :, :10])


@pytest.mark.parametrize(
    "method", [TwoPath.printed(4), HeavyBall((1.0, 0.5, 0.5, 0.5), 0.0)]
)
def test_a_method_must_keep_x_in_all_of_its_steps(method):
    with pytest.raises(InputError, match="keeps x neither over the branch"):
        create("vit", recurrence=method, depth=4, width=4, heads=1, patch_size=4)
