"""Table 3 as identities: our networks against independently written ones."""

import functools
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.networks.units import BasicUnit
from optnet_jax.recurrences import GradientDescent, HeavyBall, TwoPath, heavy_ball
from optnet_jax.structures import Propagation, stack_layers, unroll_layers

CIFAR = {"stage_sizes": (2, 2), "widths": (4, 8), "num_classes": 3}
IMAGENET = {**CIFAR, "stem": "imagenet", "shortcut": "projection"}


class _Plain(nn.Module):
    """What the independently written networks below are made of.

    A parameter's name is its path in ours.
    """

    stage_sizes: tuple
    widths: tuple
    num_classes: int
    stem: str = "cifar"
    shortcut: str = "pad"

    def conv_bn(self, x, features, size, stride, conv, norm):
        pad = (size - 1) // 2
        conv = nn.Conv(
            features, (size, size), stride, [(pad, pad)] * 2, use_bias=False, name=conv
        )
        evaluate = not self.is_mutable_collection("batch_stats")
        bn = nn.BatchNorm(evaluate, momentum=0.9, epsilon=1e-5, name=norm)
        return bn(conv(x))

    def branch(self, x, i, j, path=""):
        """Unit j of stage i."""
        place = f"transition{path}/unit"
        if not i or j:
            place = f"propagation/layer_{j - bool(i)}/transform{path}"
        unit, features = f"stage_{i}/{place}", self.widths[i]
        names = f"{unit}/conv_0", f"{unit}/norm_0"
        x = nn.relu(self.conv_bn(x, features, 3, 2 if i and not j else 1, *names))
        return self.conv_bn(x, features, 3, 1, f"{unit}/conv_1", f"{unit}/norm_1")

    def skip(self, x, i, j, path=""):
        if not i or j:
            return x
        if self.shortcut == "projection":
            place = f"stage_{i}/transition{path}/shortcut"
            names = f"{place}/conv", f"{place}/norm"
            return self.conv_bn(x, self.widths[i], 1, 2, *names)
        x = x[:, ::2, ::2]
        return jnp.concatenate([x, jnp.zeros_like(x)], -1)

    @nn.compact
    def __call__(self, images, train=False):
        size, stride = (3, 1) if self.stem == "cifar" else (7, 2)
        names = "stem_conv", "stem_norm"
        x = nn.relu(self.conv_bn(images, self.widths[0], size, stride, *names))
        if self.stem != "cifar":
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
            x = nn.max_pool(x, (3, 3), (2, 2))
        places = [(i, j) for i, n in enumerate(self.stage_sizes) for j in range(n)]
        return nn.Dense(self.num_classes, name="head")(self.run(x, places).mean((1, 2)))


class ResNet(_Plain):
    def run(self, x, places):
        for place in places:
            x = nn.relu(self.branch(x, *place) + self.skip(x, *place))
        return x


class DMRNet(_Plain):
    def run(self, x, places):
        left = right = x
        for place in places:
            left_skip = self.skip(left, *place, "_prime")
            merged = left_skip / 2 + self.skip(right, *place) / 2
            left = self.branch(left, *place, "_prime") + merged
            right = self.branch(right, *place) + merged
        return nn.relu(left / 2 + right / 2)


_as_ours = functools.partial(flax.traverse_util.unflatten_dict, sep="/")


def _images(size=8):
    return jnp.asarray(np.random.default_rng(1).normal(size=(4, size, size, 3)), float)


@pytest.mark.parametrize(
    ("name", "reference", "geometry"),
    [
        ("hb_net", ResNet, CIFAR),
        ("hb_net", ResNet, IMAGENET),
        ("dmr_net", DMRNet, IMAGENET | {"stem": "cifar"}),
    ],
)
def test_special_case_is_the_independently_written_network(
    float64, random_variables, run, assert_close, name, reference, geometry
):
    # HB with β2 = 0 and a ReLU after the sum is ResNet; (20) with ½ is DMRNet.
    case = {"beta2": 0.0, "post_activation": True} if name == "hb_net" else {}
    ours = create(name, **geometry, **case)
    theirs = reference(**geometry)
    images = _images(32 if geometry.get("stem") == "imagenet" else 8)
    variables = random_variables(theirs, images)
    translated = {key: _as_ours(value) for key, value in variables.items()}
    logits, stats, gradient, evaluated = run(theirs, variables, images)
    expected = logits, _as_ours(stats), _as_ours(gradient), evaluated
    assert_close(run(ours, translated, images), expected)


def test_resnet_is_hb_net_with_other_coefficients():
    assert create("resnet56") == create("hb_net56", beta2=0.0, post_activation=True)
    assert create("resnet34") == create("hb_net34", beta2=0.0, post_activation=True)


@pytest.mark.parametrize("name", ["hb_net", "nesterov_net"])
def test_learned_coefficients_start_at_the_fixed_ones(random_variables, name):
    fixed, learned = (
        create(name, **CIFAR),
        create(name, **CIFAR, learned=("beta1", "beta2")),
    )
    images = _images()
    variables = random_variables(fixed, images)
    initial = learned.init(jax.random.key(0), images)["params"]
    with_coefficients = jax.tree.map(lambda a: a, variables)
    for i, depth in enumerate((2, 1)):
        for beta in ("beta1", "beta2"):
            coefficient = initial[f"stage_{i}"]["propagation"][beta]
            assert coefficient.shape == (depth,)
            stage = with_coefficients["params"][f"stage_{i}"]
            stage["propagation"][beta] = coefficient
    np.testing.assert_array_equal(
        jax.jit(fixed.apply)(variables, images),
        jax.jit(learned.apply)(with_coefficients, images),
    )


def test_layouts_and_reversible_compute_the_same(
    float64, random_variables, run, assert_close
):
    images = _images()
    unrolled = create("hb_net", **CIFAR)
    scanned = create("hb_net", **CIFAR, unroll=False)
    reversible = create("hb_net", **CIFAR, reversible=True)
    remat = create("hb_net", **CIFAR, unroll=False, remat=True)
    variables = random_variables(unrolled, images)
    stacked = stack_layers(variables)
    expected = list(run(unrolled, variables, images))
    for network in (scanned, reversible, remat):
        found = run(network, stacked, images)
        assert_close([unroll_layers(tree) for tree in found], expected, 1e-10)


@pytest.mark.parametrize("name", ["hb_net", "dmr_net"])
def test_tied_stages_compute_the_same_scanned_and_written_out(
    float64, random_variables, run, assert_close, name
):
    """The running statistics, too, which pass from step to step."""
    images = _images()
    scanned = create(name, tied=True, **CIFAR)
    written_out = create(name, tied=True, unroll=True, **CIFAR)
    variables = random_variables(scanned, images)
    found = run(scanned, variables, images)
    assert_close(found, run(written_out, variables, images), 1e-10)


def test_reversible_trains_in_bfloat16(random_variables, run, assert_close):
    network = create("hb_net", **CIFAR, reversible=True, dtype="bfloat16")
    images = _images()
    variables = random_variables(network, images)
    logits, stats, gradient, _ = run(network, variables, images)
    # The iterates are kept in float32, so running backwards is as exact as without.
    full = create("hb_net", **CIFAR, reversible=True)
    expected = run(full, variables, images)[2]
    for leaf in jax.tree.leaves((logits, stats, gradient)):
        assert leaf.dtype == jnp.float32
    largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    assert_close(gradient, expected, 0.1, 0.1 * largest)


def test_deep_stages_are_scanned_and_shallow_ones_written_out():
    network = create("hb_net", stage_sizes=(19, 18), widths=(2, 2), num_classes=2)
    variables = jax.eval_shape(network.init, jax.random.key(0), _images(4))
    stages = [variables["params"][f"stage_{i}"]["propagation"] for i in range(2)]
    assert set(stages[0]) == {"layers"}
    assert len(stages[1]) == 17


@pytest.mark.parametrize("start", ["same", "zero"])
def test_start_is_the_first_stage_previous_iterate(random_variables, start):
    fields = {"stage_sizes": (1,), "widths": (4,)}
    with_previous = create("hb_net", beta2=-1.0, start=start, **fields)
    images = _images()
    variables = random_variables(with_previous, images)
    # x_1 = T(x_0) + x_0 - x_{-1}
    beta1 = {"same": 0.0, "zero": 1.0}[start]
    without = create("hb_net", beta1=beta1, beta2=0.0, **fields)
    np.testing.assert_allclose(
        with_previous.apply(variables, images),
        without.apply(variables, images),
        atol=1e-6,
    )


def test_one_recurrence_for_each_stage(random_variables):
    fields = {"stage_sizes": (2, 2), "widths": (4, 4)}
    images = _images()
    one = RecurrenceNet(heavy_ball(0.5), **fields)
    variables = random_variables(one, images)
    two = RecurrenceNet((heavy_ball(0.5), heavy_ball(0.5)), **fields)
    np.testing.assert_array_equal(
        one.apply(variables, images), two.apply(variables, images)
    )


@pytest.mark.parametrize("block", ["basic", "conv", "bottleneck", "pre_activation"])
def test_blocks_have_their_weight_layers(block):
    network = create(
        "resnet",
        block=block,
        stage_sizes=(1, 2),
        widths=(8, 16),
        stem_features=4,
        shortcut="projection",
    )
    variables = jax.eval_shape(network.init, jax.random.key(0), _images())
    unit = variables["params"]["stage_1"]["propagation"]["layer_0"]["transform"]
    kernels = [
        unit[f"conv_{k}"]["kernel"].shape for k in range(3) if f"conv_{k}" in unit
    ]
    assert (
        kernels
        == {
            "basic": [(3, 3, 16, 16)] * 2,
            "conv": [(3, 3, 16, 16)],
            "bottleneck": [(1, 1, 16, 4), (3, 3, 4, 4), (1, 1, 4, 16)],
            "pre_activation": [(3, 3, 16, 16)] * 2,
        }[block]
    )


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 3, 8, 3), "images of 3x8 are smaller .* at least 4x4"),
        ({"stem": "imagenet"}, (1, 15, 15, 3), "at least 16x16"),
        ({}, (8, 8, 3), "images must be"),
        ({"widths": (16, 8, 8)}, (1, 8, 8, 3), 'use shortcut="projection"'),
        ({"block": "bottleneck", "widths": (6, 8, 8)}, (1, 8, 8, 3), "4 divides"),
        ({"learned": ("beta3",)}, (1, 8, 8, 3), "'beta3' is no coefficient"),
    ],
)
def test_inputs_that_do_not_fit_are_one_clear_error(fields, shape, message):
    network = create("hb_net20", **fields)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(network.init, jax.random.key(0), jnp.ones(shape))


def test_coefficients_for_each_step_of_a_single_stage():
    network = RecurrenceNet(HeavyBall((1, 0.5), (-1, 0)), (2,), (4,))
    images = jnp.ones((1, 4, 4, 3))
    assert jax.eval_shape(network.init, jax.random.key(0), images)


class UnitOfModules(BasicUnit):
    """A user's unit that holds another module, by a field or by its default."""

    inner: Any = nn.Dense(4)

    @nn.compact
    def __call__(self, x):
        return self.inner(self.conv(self.features, 3, self.strides, name="conv")(x))


@pytest.mark.parametrize(
    ("method", "fields", "copies"),
    [
        (HeavyBall(1, -1), {}, 4),
        (HeavyBall(1, -1), {"reversible": True}, 4),
        (HeavyBall(1, -1), {"tied": True}, 3),
        (TwoPath(), {"separate_paths": True}, 8),
    ],
)
@pytest.mark.parametrize(
    "block", [UnitOfModules, functools.partial(UnitOfModules, inner=nn.Dense(4))]
)
def test_a_block_that_holds_a_module_has_one_of_its_own_in_every_unit(
    block, method, fields, copies
):
    network = RecurrenceNet(
        method, stage_sizes=(2, 2), widths=(4, 4), block=block, **fields
    )
    shapes = jax.eval_shape(network.init, jax.random.key(0), _images())["params"]
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    inner = sum(leaf.size for path, leaf in leaves if "inner" in str(path))
    assert inner == copies * (4 * 4 + 4)


def test_dropped_paths_are_of_training_alone():
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    plain = create("hb_net", stage_sizes=(2, 2), widths=(4, 8))
    network = plain.clone(drop_path=0.5)
    variables = network.init(jax.random.key(1), images)
    np.testing.assert_array_equal(
        network.apply(variables, images), plain.apply(variables, images)
    )
    ends = [
        network.apply(
            variables,
            images,
            train=True,
            rngs={"dropout": jax.random.key(key)},
            mutable=["batch_stats"],
        )[0]
        for key in (2, 3)
    ]
    assert not np.allclose(*ends)


def test_a_coefficient_may_be_one_number_of_all_units_of_a_stage():
    network = create("hb_net", **CIFAR, learned=("beta2",), shared=True)
    shapes = jax.eval_shape(network.init, jax.random.key(0), _images())
    assert shapes["params"]["stage_1"]["propagation"]["beta2"].shape == (1,)


@pytest.mark.parametrize("unroll", [True, False])
def test_paths_are_dropped_more_often_with_depth(unroll):
    """Huang et al.: p_l = p_L l / L for the unit l of L; a transition is kept."""
    fields = {"stage_sizes": [2, 3], "widths": (4, 8), "unroll": unroll}
    network, found = create("hb_net", **fields, drop_path=[0, 0.5]), {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, Propagation):
            found[context.module.path[0]] = context.module.drop_path
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        images = jnp.ones((1, 8, 8, 3))
        jax.eval_shape(functools.partial(network.init, train=True), keys, images)
    assert found["stage_0"] == pytest.approx((0.1, 0.2))
    assert found["stage_1"] == pytest.approx((0.4, 0.5))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("plain", {}, "drop_path needs a method"),
        ("nesterov_net", {}, "drop_path needs a method"),
        ("hb_net", {"reversible": True}, "reversible excludes drop_path"),
        ("agd_net", {}, "no field 'drop_path'"),
        ("hb_net", {"drop_path": 1.0}, "drop_path=1.0 must be"),
        ("hb_net", {"drop_path": (0, 0.1, 0.5)}, "drop_path=.* must have 2 values"),
    ],
)
def test_where_a_path_cannot_be_dropped(name, fields, message):
    with pytest.raises(InputError, match=message):
        create(name, **{"drop_path": 0.5, **fields})


@pytest.mark.parametrize("name", ["resnet", "hb_net", "dmr_net", "admm_net"])
@pytest.mark.parametrize("options", [{}, {"post_activation": True}])
def test_a_path_can_be_dropped_where_there_is_a_skip(name, options):
    if options and name not in ("resnet", "hb_net"):
        options = {}
    assert create(name, drop_path=0.5, **options).drop_path == 0.5


def test_recurrences_are_named_in_a_tuple():
    network = RecurrenceNet(("gd", heavy_ball(0.3)), stage_sizes=(2, 2), widths=(4, 4))
    assert network.recurrence == (GradientDescent(), heavy_ball(0.3))


class Relaxed(NamedTuple):
    """x ← x + a T(x): a method that is a tuple, and one for all stages."""

    share: float = 1.0

    def coefficients(self, depth):
        return {"a": np.full(depth, self.share)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return state + c["a"] * transform(state)

    def output(self, state):
        return state


def test_a_recurrence_may_be_a_tuple_itself(random_variables):
    fields = {"stage_sizes": (2, 2), "widths": (4, 4)}
    own, same = (RecurrenceNet(m, **fields) for m in (Relaxed(), HeavyBall(1, 0)))
    variables = random_variables(same, _images())
    np.testing.assert_allclose(
        own.apply(variables, _images()), same.apply(variables, _images()), atol=1e-5
    )


@pytest.mark.parametrize("order", [1, -1])
def test_stages_have_as_many_paths(order):
    methods = (TwoPath(), HeavyBall(1, -1))[::order]
    with pytest.raises(InputError, match="some stages have two paths"):
        RecurrenceNet(methods, stage_sizes=(2, 2), widths=(4, 4))


def test_steps_of_their_own_coefficients_may_be_dropped():
    fields = {"stage_sizes": (3, 1), "widths": (4, 4), "drop_path": 0.1}
    RecurrenceNet((HeavyBall((1.0, 0.5, 1.0), 0.0), HeavyBall(1, 0)), **fields)
    with pytest.raises(InputError, match="drop_path needs a method"):
        RecurrenceNet((HeavyBall((0.0, 0.5, 1.0), 0.0), HeavyBall(1, 0)), **fields)
