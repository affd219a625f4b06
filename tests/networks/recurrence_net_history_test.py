"""DenseNet and AGD-Net against a DenseNet that is written from its own paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.inspect.figure import draw_network, network_structures
from optnet_jax.inspect.graph import Edge
from optnet_jax.inspect.summary import summarize
from optnet_jax.networks import create
from optnet_jax.networks.fields import declared
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.networks.units import BasicUnit
from optnet_jax.networks.zoo import agd_net, densenet
from optnet_jax.recurrences import HeavyBall, HistorySum
from optnet_jax.weights import torchvision

SIZES, GROWTH, CLASSES = (2, 2), 4, 3
BOTTLENECK = {"bottleneck": True, "compression": 0.5}


def _bn_relu(module, x, name="norm"):
    evaluate = not module.is_mutable_collection("batch_stats")
    bn = nn.BatchNorm(evaluate, momentum=0.9, epsilon=1e-5, name=name)
    return nn.relu(bn(x))


class HuangLayer(nn.Module):
    """H([x_0, ..., x_l]) of Huang et al. (2017) §3: BN-ReLU-conv, in plain linen."""

    bottleneck: bool

    @nn.compact
    def __call__(self, x):
        if not self.bottleneck:
            x = _bn_relu(self, x, "norm")
            return nn.Conv(GROWTH, (3, 3), use_bias=False, name="conv")(x)
        x = _bn_relu(self, x, "norm1")
        x = nn.Conv(4 * GROWTH, (1, 1), use_bias=False, name="conv1")(x)
        x = _bn_relu(self, x, "norm2")
        return nn.Conv(GROWTH, (3, 3), use_bias=False, name="conv2")(x)


class HuangBlock(nn.Module):
    size: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x):
        for k in range(self.size):
            new = HuangLayer(self.bottleneck, name=f"layer_{k}")(x)
            x = jnp.concatenate([x, new], -1)
        return x


class HuangTransition(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        x = _bn_relu(self, x)
        x = nn.Conv(self.features, (1, 1), use_bias=False, name="conv")(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class HuangDenseNet(nn.Module):
    bottleneck: bool = False
    compression: float = 1.0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(16, (3, 3), use_bias=False, name="stem_conv")(x)
        for i, size in enumerate(SIZES):
            x = HuangBlock(size, self.bottleneck, name=f"stage_{i}")(x)
            if i < len(SIZES) - 1:
                features = int(self.compression * x.shape[-1])
                x = HuangTransition(features, name=f"transition_{i}")(x)
        x = _bn_relu(self, x).mean((1, 2))
        return nn.Dense(CLASSES, name="head")(x)


def _small(make=densenet, **fields):
    return make(stage_sizes=SIZES, growth_rate=GROWTH, num_classes=CLASSES, **fields)


@pytest.mark.parametrize("fields", [{}, BOTTLENECK], ids=["plain", "bottleneck"])
def test_unit_alpha_and_no_beta_is_densenet(
    float64, random_variables, run, assert_close, fields
):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 2)))
    reference = HuangDenseNet(**fields)
    variables = random_variables(reference, images)
    expected = run(reference, variables, images)
    assert_close(run(_small(**fields), variables, images), expected)

    agd = _small(agd_net, **fields, beta=0.0)
    params = dict(variables["params"])
    for i, size in enumerate(SIZES):
        ones = jnp.ones(size * (size + 1) // 2)
        params[f"stage_{i}"] = {**params[f"stage_{i}"], "alpha": ones}
    found = run(agd, {**variables, "params": params}, images)
    for i in range(len(SIZES)):
        assert np.all(found[2][f"stage_{i}"].pop("alpha") != 0)
    assert_close(found, expected)


def test_agd_net_is_not_densenet(float64, random_variables):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 2)))
    network = _small()
    variables = random_variables(network, images)
    difference = network.apply(variables, images) - _small(beta=0.1).apply(
        variables, images
    )
    assert np.abs(difference).max() > 1e-3


def test_compute_in_bfloat16_keeps_state_and_logits_in_float32(random_variables, run):
    images = jnp.ones((2, 4, 4, 1))
    module = _small(dtype=jnp.bfloat16, learned=("alpha",), beta=0.1)
    variables = random_variables(module, images)
    for leaf in jax.tree.leaves(run(module, variables, images)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


def test_dropout_acts_in_training_only(random_variables, assert_close):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 1)))
    plain, dropped = _small(), _small(dropout_rate=0.2)
    variables = random_variables(plain, images)
    assert_close(
        dropped.apply(variables, images, train=False),
        plain.apply(variables, images, train=False),
        0,
    )

    @jax.jit
    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return dropped.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats"]
        )[0]

    first, again, other = map(run, (0, 0, 1))
    assert_close(first, again, 0)
    assert np.abs(first - other).max() > 1e-3


class DenseMomentum:
    """A user's own method over the history: x_{k+1} = C_k + γ (x_k - x_{k-1})."""

    history = True

    def __init__(self, gamma=0.5):
        self.gamma = gamma

    def coefficients(self, depth):
        return {"gamma": np.full(depth, self.gamma)}

    def init(self, x0):
        return (x0,)

    def step(self, transform, xs, c):
        x = transform(xs)
        return (*xs, x + c["gamma"] * (xs[-1] - xs[-2]) if len(xs) > 2 else x)

    def output(self, xs):
        return xs[-1]


OWN = {"stage_sizes": (3, 2), "growth_rate": GROWTH, "num_classes": CLASSES}


class OfJax(DenseMomentum):
    """Whose coefficients JAX computes, which would be traced with the network."""

    def coefficients(self, depth):
        alpha = [jnp.full(k + 1, self.gamma) for k in range(depth)]
        return {"alpha": alpha, "gamma": jnp.full(depth, self.gamma)}

    def step(self, transform, xs, c):
        return super().step(lambda xs: transform(xs, c["alpha"]), xs, c)


@pytest.mark.parametrize("learned", [(), ("alpha", "gamma")])
def test_coefficients_of_jax_are_those_of_numpy(learned):
    network = create("agd_net", recurrence=OfJax(), learned=learned, **OWN)
    images = jnp.ones((2, 8, 8, 1))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    assert jnp.isfinite(jax.jit(network.apply)(variables, images)).all()
    for name in learned:
        assert np.unique(variables["params"]["stage_0"][name]).tolist() == [0.5]


def test_a_users_own_recurrence_over_the_history_gives_a_dense_network(
    float64, random_variables, assert_close
):
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 2)))
    network = create("agd_net", recurrence=DenseMomentum(), **OWN)
    variables = random_variables(network, images)
    plain = create("densenet", **OWN)
    stage, inner = variables["params"]["stage_0"], variables["batch_stats"]["stage_0"]

    # Stage 0 by hand; the rest of the network is the same as with DenseNet's sum.
    def stage_0(coefficient, x0):
        xs = [x0]
        for k in range(3):
            layer = {"params": stage[f"layer_{k}"], "batch_stats": inner[f"layer_{k}"]}
            unit = HuangLayer(bottleneck=False)
            x = unit.apply(layer, jnp.concatenate(xs, -1))
            xs.append(x + coefficient * (xs[k] - xs[k - 1]) if k > 1 else x)
        return xs

    outputs = {}
    for gamma, module in ((0.5, network), (0.0, plain)):
        logits, seen = module.apply(variables, images, capture_intermediates=True)
        (xs,) = seen["intermediates"]["stage_0"]["__call__"]
        assert_close(list(xs), stage_0(gamma, xs[0]))
        outputs[gamma] = logits
    assert np.abs(outputs[0.5] - outputs[0.0]).max() > 1e-3
    without = create("agd_net", recurrence=DenseMomentum(0.0), **OWN)
    assert_close(without.apply(variables, images), outputs[0.0])


def test_it_is_summarised_drawn_and_recorded(tmp_path):
    network = create("agd_net", recurrence=DenseMomentum(), learned=("gamma",), **OWN)
    table = summarize(network, (8, 8, 3))
    assert "3 steps of DenseMomentum; gamma 0.5 learned\n" in table
    assert draw_network(network, tmp_path / "own.png").stat().st_size > 1000
    gammas = {"stage_0": jnp.array([0.0, 0.0, 2.0]), "stage_1": jnp.zeros(2)}
    structures = network_structures(
        network, {stage: {"gamma": gamma} for stage, gamma in gammas.items()}
    )
    plain = {e for e in structures["stage 0"].edges if not e.through_transform}
    assert plain == {Edge(1, 3, -2.0), Edge(2, 3, 2.0)}
    with declared() as paths:
        images = jnp.ones((1, 8, 8, 3))
        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    assert {"stage_0.gamma", "stage_1.gamma"} <= paths
    assert shapes["params"]["stage_0"]["gamma"].shape == (3,)


def test_it_starts_from_torchvisions_densenet(random_variables, assert_close):
    fields = {**OWN, **BOTTLENECK, "stem": "imagenet"}
    plain = create("densenet", **fields)
    images = jnp.ones((2, 32, 32, 3))
    variables = random_variables(plain, images)
    state = torchvision.export_state_dict(plain, variables)
    own = create("agd_net", recurrence=DenseMomentum(0.0), **fields)
    loaded = torchvision.import_state_dict(own, state)
    assert_close(own.apply(loaded, images), plain.apply(variables, images), 1e-6)


def test_agd_net_is_its_densenet_with_other_coefficients():
    for depth in (40, 52, 121):
        agd, densenet = create(f"agd_net{depth}"), create(f"densenet{depth}")
        changed = densenet.clone(recurrence=agd.recurrence, learned=("alpha",))
        assert changed == agd


def test_matrices_for_each_stage_and_coefficients_by_name(
    float64, random_variables, assert_close
):
    alphas = [np.tril(np.full((n, n), 0.5 + n)) for n in SIZES]
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 1)))
    network = _small(alpha=(alphas[0], 2 * alphas[1]), learned=("alpha",))
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    assert params["stage_1"]["alpha"].shape == (3,)
    starts = [method.coefficients(2)["alpha"][1] for method in network.recurrence]
    assert [row.tolist() for row in starts] == [[2.5, 2.5], [5.0, 5.0]]
    same = jnp.stack([jnp.eye(2), 2 * jnp.eye(2)])
    assert _small(alpha=same) == _small(alpha=np.asarray(same))
    assert _small(alpha=np.asarray(2.0)) == _small(alpha=2.0)
    named, number = (_small(alpha="nesterov", beta=b) for b in ("nesterov", 1.0))
    variables = random_variables(number, images)
    assert_close(named.apply(variables, images), number.apply(variables, images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: create("agd_net", recurrence=DenseMomentum(), beta=0.3),
            "alpha and beta are those of .18., and DenseMomentum has coefficients",
        ),
        (lambda: create("agd_net", recurrence=3), "^recurrence=3 must be a recurrence"),
        (lambda: create("agd_net", tied=True), "has no field 'tied'"),
        (lambda: create("hb_net", compression=0.5), "has no field 'compression'"),
        (
            lambda: create("agd_net", recurrence=HeavyBall()),
            "HeavyBall takes one iterate: RecurrenceNet",
        ),
        (
            lambda: create("agd_net", alpha=(np.eye(2), np.eye(3))),
            "alpha needs a matrix for each of the 3 stages, got 2",
        ),
        (
            lambda: RecurrenceNet(HistorySum(), (2,), (4,), tied=True),
            "tied means nothing .* takes the whole history, as HistorySum does",
        ),
        (
            lambda: RecurrenceNet(HeavyBall(), (2,), (4,), dropout_rate=0.5),
            "dropout_rate means nothing .* takes one iterate, as HeavyBall does",
        ),
        (
            lambda: RecurrenceNet(HistorySum(), (2,), (4,), block="basic"),
            "block must be one of dense, dense_bottleneck",
        ),
        (
            lambda: RecurrenceNet((HistorySum(), HeavyBall()), (2, 2), (4, 4)),
            "recurrences of one kind",
        ),
        (
            lambda: RecurrenceNet((HistorySum(),)),
            "one for each of the 3 stages, got 1",
        ),
        (lambda: create("hb_net56", block="dense"), "block must be one of basic"),
        (
            lambda: create("hb_net56", block=nn.Conv),
            "block=.*Conv.* must take features, conv, norm, relu, for a",
        ),
        (
            lambda: RecurrenceNet(HistorySum(), (2,), (4,), block=BasicUnit),
            "block=.*BasicUnit.* must take features, norm, dropout_rate, train, dtype",
        ),
        (lambda: create("hb_net56", widths=(16, 32)), "one entry for each stage"),
        (
            lambda: create("dmr_net", start="zero"),
            "start means nothing .* begins at x_0 alone, as TwoPath does",
        ),
        (
            lambda: RecurrenceNet("agd2", boundary="same"),
            "boundary means nothing .* begins at x_0 alone, as NesterovSum does",
        ),
        (lambda: create("hb_net20", shared=True), "shared means nothing where no co"),
        (lambda: create("resnet20", reversible=True), "beta2 != 0 in every step"),
        (
            lambda: create("hb_net20", reversible=True, post_activation=True),
            "reversible needs post_activation=None",
        ),
        *(
            (
                lambda field=field: create(
                    "hb_net20", reversible=True, **{field: True}
                ),
                "reversible excludes tied, unroll, remat",
            )
            for field in ("tied", "unroll", "remat")
        ),
        (
            lambda: RecurrenceNet(("gd", "hgd", "agd")),
            "must be a recurrence, .* or a tuple of these, one for each stage",
        ),
    ],
)
def test_fields_that_do_not_fit(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_compression_that_leaves_no_channel_is_refused():
    net = create("agd_net", stage_sizes=(1, 1), compression=0.01)
    with pytest.raises(InputError, match="compression=0.01 leaves none of the 28 chan"):
        net.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
