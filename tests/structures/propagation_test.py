import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax import recurrences
from optnet_jax.errors import InputError
from optnet_jax.recurrences import ADMM, HeavyBall, iterate, pair
from optnet_jax.structures import (
    EachLayer,
    FullyConnected,
    Propagation,
    ReversiblePropagation,
    stack_layers,
)

DEPTH = 4


class QuasiHyperbolic:
    """A method that the package does not have, as a user writes it."""

    def coefficients(self, depth):
        return {"nu": jnp.full(depth, 0.7)}

    def init(self, x0):
        return x0, jnp.zeros_like(x0)

    def step(self, transform, state, c):
        x, g = state
        r = x - transform(x)
        g = 0.9 * g + 0.1 * r
        return x - (1 - c["nu"]) * r - c["nu"] * g, g

    def output(self, state):
        return state[0]


class Swapping:
    """Another one, of two paths."""

    paths = 2

    def coefficients(self, depth):
        return {"a": jnp.linspace(0.1, 0.5, depth)}

    def init(self, x0):
        return pair(x0)

    def step(self, transform, state, c):
        (t_prime, t), (x_prime, x) = pair(transform), state
        return t_prime(x), t(x_prime) + c["a"] * x

    def output(self, state):
        return state[1]


METHODS = [
    recurrences.GradientDescent(),
    recurrences.heavy_ball(0.3),
    recurrences.Nesterov(),
    recurrences.NesterovSum(),
    recurrences.ADMM(),
    recurrences.TwoPath(),
    QuasiHyperbolic(),
    Swapping(),
]
X = jax.random.normal(jax.random.key(0), (3, 5))


class ConvUnit(nn.Module):
    """A convolutional transform with running statistics and dropout."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(x.shape[-1], (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not self.train)(x))
        return nn.Dropout(0.5, deterministic=not self.train)(x)


def kernels(variables):
    return variables["params"]["layers"]["transform"]["linear"]["kernel"]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
class TestEveryMethod:
    @pytest.mark.parametrize("unroll", [False, True])
    @pytest.mark.parametrize("tied", [False, True])
    def test_is_iterate_with_its_weights(self, method, tied, unroll):
        module = Propagation(method, FullyConnected(), DEPTH, tied=tied, unroll=unroll)
        learned = module.clone(learned=tuple(method.coefficients(DEPTH)))
        variables = learned.init(jax.random.key(1), X)
        w = kernels(stack_layers(variables))
        assert w.shape == ((5, 5) if tied else (DEPTH, 5, 5))
        assert tied or not jnp.allclose(w[0], w[1])  # each drawn on its own
        expected = iterate(
            method,
            lambda x, w: nn.sigmoid(x @ w),
            X,
            DEPTH,
            weights=jnp.broadcast_to(w, (DEPTH, 5, 5)),
            trajectory=True,
        )
        ours = learned.apply(variables, X, trajectory=True)
        np.testing.assert_allclose(ours, expected, atol=1e-6)
        np.testing.assert_allclose(module.apply(variables, X), expected[-1], atol=1e-6)

    def test_remat_changes_no_gradient(self, method, assert_close):
        plain = Propagation(method, FullyConnected(), DEPTH)
        variables = plain.init(jax.random.key(1), X)
        slopes = [
            jax.grad(lambda v, m=module: m.apply(v, X).sum())(variables)
            for module in (plain, plain.clone(remat=True))
        ]
        assert_close(*slopes, 1e-5, 1e-6)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
def test_running_statistics_and_dropout(tied, unroll):
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    module = Propagation(HeavyBall(1, -1), ConvUnit(), 3, tied=tied, unroll=unroll)
    rngs = {"params": jax.random.key(1), "dropout": jax.random.key(2)}
    variables = module.init(rngs, x)
    dropout = {"dropout": jax.random.key(3)}
    y, changed = module.apply(variables, x, rngs=dropout, mutable=["batch_stats"])
    assert y.shape == x.shape
    old, new = variables["batch_stats"], changed["batch_stats"]
    assert jax.tree.structure(old) == jax.tree.structure(new)
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        assert not jnp.allclose(a, b)
    frozen = module.clone(transform=ConvUnit(train=False))
    assert frozen.apply(variables, x).shape == x.shape


def test_tied_statistics_see_every_layer():
    """Two layers share one running variance: each moves it by a tenth."""
    x = 3 * jax.random.normal(jax.random.key(0), (1000, 2))
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=0)
    module = Propagation(recurrences.GradientDescent(), norm, 2, tied=True)
    variables = module.init(jax.random.key(1), x)
    _, changed = module.apply(variables, x, mutable=["batch_stats"])
    variance = changed["batch_stats"]["layers"]["transform"]["var"]
    # The first layer sees var(x), the second what the first has normalised to 1.
    after_first = 0.9 * 1 + 0.1 * jnp.var(x, axis=0)
    np.testing.assert_allclose(variance, 0.9 * after_first + 0.1 * 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("recurrence", "learned"),
    [
        (HeavyBall(1, 0), ("beta1",)),
        (recurrences.Nesterov(1, 0), ("beta1",)),
        (recurrences.LinearMultistep(0), ()),
    ],
)
def test_an_iterate_with_the_coefficient_0_is_not_read(recurrence, learned):
    """ResNet would else keep x_{k-1}, and its gradient, for a product with 0."""
    fields = {"depth": 1, "learned": learned, "unroll": True}
    module = Propagation(recurrence, jnp.tanh, **fields)
    variables = module.init(jax.random.key(1), X)
    infinite = jnp.full_like(X, jnp.inf)
    expected = module.apply(variables, X)
    assert jnp.isfinite(expected).all()
    np.testing.assert_array_equal(module.apply(variables, X, infinite), expected)


def test_learned_coefficients_start_as_the_methods_own_and_train():
    module = Propagation(
        recurrences.Nesterov(), FullyConnected(), DEPTH, learned=("beta1", "beta2")
    )
    variables = module.init(jax.random.key(1), X)
    own = recurrences.Nesterov().coefficients(DEPTH)
    for name in ("beta1", "beta2"):
        np.testing.assert_allclose(variables["params"][name], own[name], rtol=1e-6)
    slope = jax.grad(lambda v: (module.apply(v, X) ** 2).sum())(variables)
    assert jnp.all(slope["params"]["beta1"] != 0)
    # β2 of step 0 and 1 too: x_{-1} = x_0 and x_0 are not 0.
    assert jnp.all(slope["params"]["beta2"] != 0)
    fixed = module.clone(learned=())
    layers = {"params": {"layers": variables["params"]["layers"]}}
    np.testing.assert_allclose(fixed.apply(layers, X), module.apply(variables, X))


@pytest.mark.parametrize("method", [ADMM(), Swapping()])
def test_each_path_with_weights_of_its_own(method):
    module = Propagation(method, FullyConnected(), DEPTH, separate_paths=True)
    variables = module.init(jax.random.key(1), X)
    layers = variables["params"]["layers"]
    assert set(layers) == {"transform", "transform_prime"}
    w = {path: layers[path]["linear"]["kernel"] for path in layers}
    expected = iterate(
        method,
        (
            lambda x, w: nn.sigmoid(x @ w["transform_prime"]),
            lambda x, w: nn.sigmoid(x @ w["transform"]),
        ),
        X,
        DEPTH,
        weights=w,
    )
    np.testing.assert_allclose(module.apply(variables, X), expected, atol=1e-6)


def test_a_previous_iterate_can_be_given():
    module = Propagation(HeavyBall(0, 1), jnp.zeros_like, 1)
    assert module.apply({}, jnp.ones(2), jnp.full(2, 7.0)).tolist() == [7.0, 7.0]
    with pytest.raises(InputError, match=r"shape \(2,\), x_\(-1\) \(3,\)"):
        module.apply({}, jnp.ones(2), jnp.ones(3))


@pytest.mark.parametrize("asked", ["losses", "intermediates"])
def test_what_tied_layers_sow_is_each_layers_own(asked):
    class Sowing(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=False)(nn.Dense(x.shape[-1])(x))
            self.sow("losses", "size", (x**2).sum())
            return jnp.tanh(x)

    def run(variables, **options):
        module = Propagation(HeavyBall(1, -1), Sowing(), DEPTH, tied=True, **options)
        mutable = ["batch_stats", asked]
        capture = asked == "intermediates"
        y, updated = module.apply(
            variables, X, mutable=mutable, capture_intermediates=capture
        )
        statistics = updated.pop("batch_stats")
        return y, statistics, updated[asked]["layers"]["transform"]

    variables = Propagation(HeavyBall(1, -1), Sowing(), DEPTH, tied=True).init(
        jax.random.key(0), X
    )
    found = run(variables)
    variables.pop("losses")
    y, statistics, sown = run(variables, unroll=True)
    name = "size" if asked == "losses" else "__call__"
    expected = y, statistics, jnp.stack(sown[name])
    found = *found[:2], *found[2][name]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_compile_time_does_not_grow_with_depth():
    """The program of a scan is as long at depth 100 as at depth 10."""

    def size(depth):
        module = Propagation(recurrences.NesterovSum(), FullyConnected(), depth)
        variables = module.init(jax.random.key(1), X)
        step = jax.jit(jax.grad(lambda v: module.apply(v, X).sum()))
        return len(step.lower(variables).as_text().splitlines())

    assert size(100) == size(10)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"depth": 0}, "at least 1, got 0"),
        (
            {"learned": ("alpha",)},
            "'alpha' is no coefficient of HeavyBall: it has beta1, beta2",
        ),
        ({"learned": ("beta1", "beta1")}, "learned=.* 'beta1' comes twice"),
        ({"separate_paths": True}, "HeavyBall has one path"),
        ({"shared": True}, "shared means nothing where no coefficient is learned"),
        (
            {"transform": lambda x: x[:-1]},
            r"must preserve the shape.* \(3, 5\) to \(2, 5\)",
        ),
    ],
)
def test_bad_input(fields, cause):
    usual = {"recurrence": HeavyBall(), "transform": jnp.tanh, "depth": 2}
    with pytest.raises(InputError, match=cause):
        Propagation(**{**usual, **fields}).init(jax.random.key(0), X)


@pytest.mark.parametrize("form", [{}, {"unroll": True}, {"tied": True, "remat": True}])
def test_transforms_in_turn_are_steps_with_coefficients_of_their_own(form):
    """Lie-Trotter splitting: a layer is a step over each."""
    layers = (FullyConnected(), FullyConnected(jnp.tanh))
    method = HeavyBall(np.linspace(0.5, 1, 6), -0.2)
    module = Propagation(method, layers, 3, learned=("beta1",), **form)
    variables = module.init(jax.random.key(1), X)
    params = variables["params"]
    np.testing.assert_allclose(params["beta1"], np.linspace(0.5, 1, 6), rtol=1e-6)
    expected, x, previous = [X], X, X
    for k in range(6):
        layer = params.get("layers") or params[f"layer_{k // 2}"]
        w = layer[f"transform_{k % 2}"]["linear"]["kernel"]
        w = w if w.ndim == 2 else w[k // 2]
        t = (nn.sigmoid, jnp.tanh)[k % 2](x @ w)
        x, previous = t + params["beta1"][k] * x - 0.2 * previous, x
        expected += [x] if k % 2 else []
    found = module.apply(variables, X, trajectory=True)
    np.testing.assert_allclose(found, jnp.stack(expected), atol=1e-5)
    assert "6 steps of HeavyBall" in module.described()


def test_each_layer_may_have_a_transform_of_its_own_kind():
    kinds = FullyConnected(jnp.tanh), jnp.sin, FullyConnected(use_bias=True)
    for method, paths in ((HeavyBall(1, -1), {}), (ADMM(), {"separate_paths": True})):
        module = Propagation(method, EachLayer(kinds), 3, unroll=True, **paths)
        variables = module.init(jax.random.key(1), X)
        params, state = variables["params"], method.init(X)
        for k, kind in enumerate(kinds):
            names = ("transform_prime", "transform") if paths else ("transform",)
            operators = [
                functools.partial(kind.apply, {"params": params[f"layer_{k}"][name]})
                if isinstance(kind, nn.Module)
                else kind
                for name in names
            ]
            c = {n: v[k] for n, v in method.coefficients(3).items()}
            operator = tuple(operators) if paths else operators[0]
            state = method.step(operator, state, c)
        found = module.apply(variables, X)
        np.testing.assert_allclose(found, method.output(state), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"depth": 2}, "neither tied nor scanned: give unroll=True"),
        ({"depth": 2, "unroll": True, "tied": True}, "neither tied nor scanned"),
        ({"depth": 3, "unroll": True}, "transforms for 2 layers, depth is 3"),
    ],
)
def test_transforms_of_several_kinds_are_written_out(fields, cause):
    with pytest.raises(InputError, match=cause):
        Propagation(HeavyBall(), EachLayer((jnp.tanh, jnp.sin)), **fields)


@pytest.mark.parametrize("unroll", [False, True])
def test_whole_numbers_give_what_floating_point_ones_give(unroll):
    network = Propagation(HeavyBall(1, -1), lambda x: x / 3, 3, unroll=unroll)
    whole = jnp.arange(4)
    expected = iterate(HeavyBall(1, -1), lambda x: x / 3, whole.astype(float), 3)
    assert network.apply({}, whole).dtype == jnp.float32
    np.testing.assert_allclose(network.apply({}, whole), expected, rtol=1e-6)
    np.testing.assert_allclose(network.apply({}, whole, whole), expected, rtol=1e-6)


def test_gradients_go_through_a_traced_coefficient():
    def final(structure, beta):
        network = structure(HeavyBall(beta, -1), lambda x: x / 2, 2)
        return network.apply({}, jnp.ones(()))

    # x_1 = ½ + β - 1, x_2 = x_1 / 2 + β x_1 - 1 at x_0 = x_{-1} = 1
    for structure in (Propagation, ReversiblePropagation):
        slope = jax.grad(functools.partial(final, structure))(0.25)
        np.testing.assert_allclose(slope, 0.5 + 2 * 0.25 - 0.5, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"tied": True}])
def test_a_shared_coefficient_is_one_number_of_all_layers(options):
    method = HeavyBall(0.9, -0.4)
    names = ("beta1", "beta2")
    one, each = (
        Propagation(method, FullyConnected(), DEPTH, learned=names, shared=s, **options)
        for s in (True, False)
    )
    variables = one.init(jax.random.key(0), X)
    params = {**variables["params"], "beta1": jnp.array([0.7])}
    assert params["beta2"].tolist() == pytest.approx([-0.4])
    spread = {**params, **{name: jnp.repeat(params[name], DEPTH) for name in names}}
    loss = lambda net: lambda params: (net.apply({"params": params}, X) ** 2).sum()  # noqa: E731
    (value, found), (expected, wanted) = (
        jax.value_and_grad(loss(net))(p) for net, p in ((one, params), (each, spread))
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for name in names:
        np.testing.assert_allclose(found[name][0], wanted[name].sum(), rtol=1e-4)


def test_what_differs_from_layer_to_layer_is_not_shared():
    net = Propagation(
        recurrences.Nesterov(), jnp.tanh, DEPTH, learned=("beta1",), shared=True
    )
    with pytest.raises(InputError, match="beta1 is not the same number"):
        net.init(jax.random.key(0), X)
    with pytest.raises(InputError, match="nor are its coefficients shared"):
        Propagation(recurrences.HistorySum(), jnp.tanh, DEPTH, shared=True)


@pytest.mark.parametrize(
    "options", [{}, {"unroll": True}, {"tied": True}, {"remat": True}]
)
@pytest.mark.parametrize("method", [HeavyBall(1.0, -0.3), recurrences.TwoPath()])
def test_a_dropped_transform_leaves_the_rest_of_the_step(method, options):
    """With T = 1 an example's end tells which of the 2^K sets of layers it kept."""
    rate, many = 0.25, jnp.zeros((2000, 1))
    ones = lambda x: jnp.ones_like(x) + 0 * x  # noqa: E731
    net = Propagation(method, ones, DEPTH, drop_path=rate, **options)
    ends = np.asarray(net.apply({}, many, rngs={"dropout": jax.random.key(1)}))
    again = net.apply({}, many, rngs={"dropout": jax.random.key(1)})
    np.testing.assert_array_equal(ends, again)
    whole = Propagation(method, ones, DEPTH, **options).apply({}, many[:1])
    assert ends.mean() == pytest.approx(float(whole[0, 0]), rel=0.06)
    kept = np.isclose(ends, whole[0, 0] / (1 - rate), rtol=1e-5).mean()
    paths = recurrences.number_of_paths(method)
    assert kept == pytest.approx((1 - rate) ** (DEPTH * paths), abs=0.05)


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"tied": True}])
def test_each_layer_may_drop_its_transform_as_often_as_it_is_told(options):
    """With T = 1 a layer of a residual structure adds m / keep."""
    rates = tuple(k / DEPTH * 0.8 for k in range(DEPTH))
    ones = lambda x: jnp.ones_like(x) + 0 * x  # noqa: E731
    net = Propagation(HeavyBall(1.0, 0.0), ones, DEPTH, drop_path=rates, **options)
    many, key = jnp.zeros((2000, 1)), jax.random.key(0)
    xs = net.apply({}, many, trajectory=True, rngs={"dropout": key})
    added = np.diff(np.asarray(xs)[..., 0], axis=0)
    for rate, steps in zip(rates, added, strict=True):
        kept = np.isclose(steps, 1 / (1 - rate), rtol=1e-4)
        assert (kept | np.isclose(steps, 0, atol=1e-4)).all()
        assert kept.mean() == pytest.approx(1 - rate, abs=0.04)
    assert np.corrcoef(added[1:] != 0)[0, 1] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"tied": True}])
def test_an_example_without_a_batch_is_dropped_as_a_whole(options):
    ones = lambda x: jnp.ones_like(x) + 0 * x  # noqa: E731
    net = Propagation(HeavyBall(1.0, 0.0), ones, 1, drop_path=0.5, **options)
    keys = jax.random.split(jax.random.key(0), 64)
    ends = jax.vmap(lambda x, key: net.apply({}, x, rngs={"dropout": key}))(
        jnp.zeros((64, 8)), keys
    )
    assert not np.ptp(ends, axis=1).any()
    assert np.unique(ends).tolist() == [0.0, 2.0]
    assert net.apply({}, 0.0, rngs={"dropout": keys[0]}) == ends[0, 0]


@pytest.mark.parametrize("options", [{}, {"unroll": True}, {"tied": True}])
def test_probabilities_may_be_an_array_or_a_list(options):
    def end(rates):
        net = Propagation(HeavyBall(1, 0), jnp.cos, DEPTH, drop_path=rates, **options)
        assert net.drop_path == tuple(rates)
        return net.apply({}, X, rngs={"dropout": jax.random.key(0)})

    rates = np.linspace(0, 0.5, DEPTH)
    expected = end(tuple(rates.tolist()))
    for given in (rates, rates.tolist()):
        np.testing.assert_array_equal(end(given), expected)


@pytest.mark.parametrize(
    "method",
    [
        recurrences.GradientDescent(),
        recurrences.Nesterov(),
        recurrences.HistorySum(),
        HeavyBall((1.0,) * (DEPTH - 1) + (0.0,), 0.0),
    ],
)
def test_a_method_that_forgets_without_its_transform_does_not_drop_it(method):
    with pytest.raises(InputError, match="drop_path needs a method"):
        Propagation(method, lambda x, alpha=None: x, DEPTH, drop_path=0.5)


@pytest.mark.parametrize("beta2", [-1 / 2, -1 / 4, -1 / 9])
def test_a_step_that_keeps_its_iterates_may_drop_its_transform(beta2):
    assert Propagation(HeavyBall(1.0, beta2), jnp.cos, DEPTH, drop_path=0.5)


def test_a_transform_is_dropped_beside_a_traced_coefficient():
    def end(beta1):
        net = Propagation(HeavyBall(beta1, 0.0), jnp.cos, DEPTH, drop_path=0.5)
        return net.apply({}, X, rngs={"dropout": jax.random.key(0)})

    np.testing.assert_allclose(jax.jit(end)(0.5), end(0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (Propagation, {}),
        (Propagation, {"tied": True}),
        (Propagation, {"unroll": True}),
        (Propagation, {"remat": True}),
        (ReversiblePropagation, {}),
    ],
)
def test_weights_may_be_cut_over_devices(assert_close, cls, fields):
    """By linen's ``with_partitioning``; the axis of the layers stays whole."""
    kernel_init = nn.initializers.lecun_normal()
    cut = nn.with_partitioning(kernel_init, (None, "model"))
    networks = [
        cls(HeavyBall(1, -1), nn.Dense(4, kernel_init=init), 3, **fields)
        for init in (kernel_init, cut)
    ]
    x = jnp.linspace(-1, 1, 12).reshape(3, 4)
    whole, boxed = (network.init(jax.random.key(0), x) for network in networks)
    specs = nn.get_partition_spec(boxed)
    kernels = [s for s in jax.tree.leaves(specs) if "model" in s]
    assert kernels
    assert all(spec[-2:] == (None, "model") for spec in kernels)
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("model",))
    places = jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), specs)
    boxed = jax.device_put(nn.unbox(boxed), places)
    found, expected = (
        jax.jit(jax.grad(lambda v, n=network: (n.apply(v, x) ** 2).sum()))(variables)
        for network, variables in zip(networks[::-1], (boxed, whole), strict=True)
    )
    assert_close(found, expected, 1e-5, 1e-5)


def test_a_trajectory_is_not_of_both_paths():
    net = Propagation(recurrences.ADMM(), jnp.tanh, DEPTH)
    with pytest.raises(InputError, match="ask for one of them"):
        net.apply({}, X, trajectory=True, both_paths=True)
