"""What every registered network promises, whoever wrote it."""

import copy
import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.networks import NETWORKS, create, field_kinds

# The large geometries are checked by their shapes; each family runs at a small one.
_small = {"stage_sizes": (1, 2), "widths": (4, 8)}
_small_dense = {"stage_sizes": (2, 2), "growth_rate": 4, "stem_features": 4}
_small_vit = {"depth": 1, "width": 8, "heads": 2, "patch_size": 8}
SMALL = {
    "lenet5": {"widths": (4,), "hidden": (8,)},
    "vgg16": {**_small, "hidden": (8,), "batch_norm": True},
    "plain": _small,
    "resnet34": _small,
    "hb_net": {**_small, "learned": ("beta1", "beta2")},
    "nesterov_net": {**_small, "unroll": False},
    "dmr_net": _small,
    "admm_net": _small,
    "densenet121": _small_dense,
    "agd_net": _small_dense,
    "vit": _small_vit,
    "yurii_vit": {**_small_vit, "pool": "mean", "unroll": False},
}
IMAGES = (4, 16, 16, 3)


def geometry(name):
    """The small geometry of a network's family: many layers only take long to trace."""
    families = (key for key in SMALL if name.startswith(key.rstrip("0123456789")))
    return SMALL[max(families, key=len)]


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_computes_and_the_rest_is_float32(name):
    network = create(name, num_classes=7, dtype="bfloat16", **geometry(name))
    images = jax.ShapeDtypeStruct((3, *IMAGES[1:]), jnp.float32)
    logits, variables = jax.eval_shape(
        network.init_with_output, jax.random.key(0), images
    )
    assert (logits.shape, logits.dtype) == ((3, 7), jnp.float32)
    assert set(variables) <= {"params", "batch_stats"}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", SMALL)
def test_logits_of_bfloat16_networks_are_not_rounded_to_it(random_variables, name):
    network = create(name, num_classes=3, dtype="bfloat16", **SMALL[name])
    images = jnp.asarray(np.random.default_rng(1).normal(size=IMAGES), jnp.float32)
    variables = random_variables(network, images)
    logits = jax.jit(network.apply)(variables, images)
    rounded = logits.astype(jnp.bfloat16).astype(jnp.float32)
    assert (logits != rounded).mean() > 0.5


@pytest.mark.parametrize(
    "name", [name for name in SMALL if "tied" in field_kinds(name)]
)
def test_tied_weights_are_scanned(name):
    """Where a stage shares its weights there is one ``lax.scan`` over its steps."""
    small = {"stage_sizes": (3, 5)} if "stage_sizes" in SMALL[name] else {}
    network = create(name, **{**SMALL[name], "unroll": None, **small}, tied=True)
    images = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    apply = functools.partial(network.apply, train=True, mutable=["batch_stats"])
    lengths = [
        equation.params["length"]
        for equation in jax.make_jaxpr(apply)(variables, images).eqns
        if equation.primitive.name == "scan"
    ]
    steps = [steps for _, steps in network.propagations().values()]  # pyright: ignore
    # The first unit of a stage that changes the shape is its transition, and every
    # layer of yurii_vit has two steps, over attention and over the MLP.
    assert lengths == [n // 2 if name == "yurii_vit" else n for n in steps]


@pytest.mark.parametrize("name", SMALL)
def test_linen_tabulates_it(name):
    table = create(name, **SMALL[name]).tabulate(jax.random.key(0), jnp.ones(IMAGES))
    assert "head" in table


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_is_the_same_network(name):
    network = create(name, **SMALL[name])
    assert copy.deepcopy(network) == network
    assert pickle.loads(pickle.dumps(network)) == network


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lenet5", {}),
        ("resnet34", {}),
        ("hb_net", {"reversible": True, "stage_sizes": (3, 3)}),
        ("dmr_net", {"unroll": False}),
        ("agd_net", {}),
        # JAX 0.12 computes no error function there, and so no GELU.
        ("vit", {"activation": "swish"}),
    ],
)
def test_gradients_inside_shard_map(random_variables, assert_close, name, fields):
    """Each device has one image, and so its own statistics: groups of one image."""
    network = create(name, num_classes=3, **{**SMALL[name], **fields})
    images = jnp.asarray(np.random.default_rng(1).normal(size=IMAGES), jnp.float32)
    variables = random_variables(network, images)

    def loss(network, params, images):
        logits, _ = network.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return (logits**2 * jnp.arange(1, 4)[None]).sum()

    mesh = jax.sharding.Mesh(jax.devices()[: len(images)], ("data",))
    spread = jax.shard_map(
        lambda *own: jax.lax.psum(loss(network, *own), "data"),
        mesh=mesh,
        in_specs=(jax.P(), jax.P("data")),
        out_specs=jax.P(),
    )
    found = jax.jit(jax.grad(spread))(variables["params"], images)
    grouped = network
    if "batch_norm_group" in field_kinds(name):
        grouped = network.clone(batch_norm_group=1)
    plain = functools.partial(loss, grouped)
    expected = jax.jit(jax.grad(plain))(variables["params"], images)
    largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert_close(found, expected, 1e-7, 1e-4 * largest)


@pytest.mark.parametrize("name", SMALL)
def test_training_and_evaluation(random_variables, name):
    network = create(name, num_classes=3, **SMALL[name])
    images = jnp.asarray(np.random.default_rng(1).normal(size=IMAGES), jnp.float32)
    variables = random_variables(network, images)

    @jax.jit
    def run(variables):
        def loss(params):
            logits, updated = network.apply(
                {**variables, "params": params},
                images,
                train=True,
                rngs={"dropout": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            return (logits**2 * jnp.arange(1, 4)[None]).sum(), updated

        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
        evaluated = network.apply(variables, images, train=False, mutable=True)
        return gradient, updated.get("batch_stats", {}), evaluated

    gradient, stats, (logits, state) = run(variables)
    assert (logits.shape, logits.dtype) == ((4, 3), jnp.float32)
    assert np.isfinite(logits).all()
    # Every parameter has a gradient.
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    # Training moves every running statistic, evaluation none and no parameter.
    for old, new in zip(
        jax.tree.leaves(variables.get("batch_stats", {})),
        jax.tree.leaves(stats),
        strict=True,
    ):
        assert (old != new).any()
    jax.tree.map(np.testing.assert_array_equal, state, variables)


FORMS = [(name, {}) for name in SMALL] + [
    ("hb_net", {"reversible": True}),
    ("hb_net", {"tied": True, "remat": True}),
    ("dmr_net", {"unroll": False}),
    ("densenet121", {"remat": True}),
    ("vgg16", {"batch_norm_group": 2}),
    ("vit", {"reversible": True, "recurrence": "leapfrog"}),
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_family_has_derivatives_in_forward_mode(name, form):
    """Traced only: what has no such derivative says so when it is traced."""
    network = create(name, num_classes=3, **{**SMALL[name], **form})
    images = jax.ShapeDtypeStruct(IMAGES, jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    tangents = (variables, images)
    logits, moved = jax.eval_shape(
        lambda primals, tangents: jax.jvp(network.apply, primals, tangents),
        tangents,
        tangents,
    )
    assert (logits.shape, moved.shape) == ((4, 3), (4, 3))
    # Of the logits with respect to a shift of all pixels: jacfwd of a gradient.
    curvature = jax.hessian(lambda t, v, x: network.apply(v, x + t).sum())
    assert jax.eval_shape(curvature, 0.0, variables, images).shape == ()


_one_stage = {"stage_sizes": (2,), "widths": (4,), "reversible": True}


@pytest.mark.parametrize(
    ("name", "fields", "train"),
    [
        ("hb_net", _one_stage, True),
        pytest.param("hb_net", _one_stage, False, marks=pytest.mark.long),
        ("agd_net", {**_small_dense, "stage_sizes": (2,)}, False),
        pytest.param("agd_net", _small_dense, True, marks=pytest.mark.long),
    ],
)
def test_derivatives_in_both_modes_and_second_ones_agree(
    float64, random_variables, name, fields, train
):
    """With one another, and with a difference of two gradients."""
    network = create(name, num_classes=3, **fields)
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4, 4, 3)))
    variables = random_variables(network, images)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), variables)

    def loss(t):
        moved = jax.tree.map(lambda a, b: a + t * b / 10, variables, direction)
        logits = network.apply(
            moved, images, train=train, mutable=["batch_stats"] if train else False
        )
        return jnp.sin((logits[0] if train else logits) / 10).sum()

    @jax.jit
    def derivatives(t):
        slope, curvature = jax.jvp(jax.grad(loss), (t,), (1.0,))
        return jax.jacfwd(loss)(t), slope, curvature, jax.grad(jax.grad(loss))(t)

    forward, slope, curvature, reverse = derivatives(0.0)
    np.testing.assert_allclose(forward, slope, rtol=1e-9)
    np.testing.assert_allclose(reverse, curvature, rtol=1e-9)
    step = 1e-5
    difference = (derivatives(step)[1] - derivatives(-step)[1]) / (2 * step)
    np.testing.assert_allclose(curvature, difference, rtol=1e-4)
