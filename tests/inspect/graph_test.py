import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.inspect.graph import NoGraphError, recurrence_structure
from optnet_jax.recurrences import (
    ADMM,
    Anderson,
    Coupled,
    GradientDescent,
    HeavyBall,
    HistorySum,
    Nesterov,
    NesterovSum,
    TwoPath,
    h_matrix,
    heavy_ball,
    iterate,
)

DEPTH = 5


def _evaluate(structure, x0, transforms):
    """Run a graph: the sum of its terms at each node, T where the node is one."""
    values = [np.asarray(x0)]
    for i, node in enumerate(structure.nodes[1:], 1):
        total = sum(
            e.weight * values[e.source] for e in structure.edges if e.target == i
        )
        if node.is_transform:
            total = transforms["'" in node.label](total)
        values.append(total)
    return values


class Counting:
    """A user's own: its state has a count, which its step computes with."""

    def coefficients(self, depth):
        return {"gamma": np.linspace(0.2, 0.8, depth)}

    def init(self, x0):
        return 0, x0

    def step(self, transform, state, c):
        count, x = state
        return count + 1, transform(x) + c["gamma"] * count * x

    def output(self, state):
        return state[1]


class Averaging(Counting):
    """A user's own: a count of floating point, and a window of iterates, last axis."""

    def init(self, x0):
        return jnp.ones(1), jnp.stack([x0, x0, x0], -1)

    def step(self, transform, state, c):
        count, xs = state
        new = transform(xs[..., 0]) / count + c["gamma"] * xs.mean(-1)
        return count + 1, jnp.concatenate([new[..., None], xs[..., :-1]], -1)

    def output(self, state):
        return state[1][..., 0]


RECURRENCES = [
    Counting(),
    Averaging(),
    GradientDescent(),
    heavy_ball(0.3),
    HeavyBall([0.5, -1.0, 0.2, 0.0, 2.0], -0.7),
    Nesterov(),
    Nesterov(1.0, 0.0),
    NesterovSum(),
    ADMM(),
    TwoPath(readout="x"),
    TwoPath(alpha=0.2, beta=-0.4, memory=1.0, readout="x"),
    *(Coupled(readout) for readout in ("x", "x_prime", "mean")),
]


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=lambda r: type(r).__name__)
def test_graph_computes_what_the_recurrence_computes(recurrence):
    # Compared in the recurrence's own arithmetic: T is not linear.
    transforms = (lambda x: jnp.sin(2 * x + 0.3), lambda x: jnp.cos(1.5 * x) - 0.2)
    x0 = jnp.array([0.3, -1.2])
    paths = getattr(recurrence, "paths", 1)
    operator = transforms[::-1] if paths == 2 else transforms[0]
    structure = recurrence_structure(recurrence, DEPTH)
    values = _evaluate(structure, x0, transforms)
    # Two where the output is the mean of both paths.
    found = [
        v for v, n in zip(values, structure.nodes, strict=True) if n.column == DEPTH
    ]
    np.testing.assert_allclose(
        np.mean(found, 0),
        iterate(recurrence, operator, x0, DEPTH),
        rtol=1e-4,
        atol=1e-5,
    )


def test_heavy_ball_is_figure_1a():
    structure = recurrence_structure(HeavyBall(0.5, -0.25), 3)
    labels = [node.label for node in structure.nodes]
    assert labels == ["x_{0}", "T_{0}", "x_{1}", "T_{1}", "x_{2}", "T_{2}", "x_{3}"]
    terms = {
        (labels[e.source], e.weight)
        for e in structure.edges
        if labels[e.target] == "x_{3}"
    }
    assert terms == {("T_{2}", 1.0), ("x_{2}", 0.5), ("x_{1}", -0.25)}


def test_learned_coefficients_and_activation():
    residual = HeavyBall(1.0, 0.0, nn.relu)
    learned = {"beta2": np.array([0.0, 0.5, 0.0])}
    plain = dataclasses.replace(residual, post_activation=None)
    structure = recurrence_structure(residual, 3, learned)
    assert structure == recurrence_structure(HeavyBall(1.0, [0.0, 0.5, 0.0]), 3)
    assert structure != recurrence_structure(plain, 3)


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        ({"beta2": np.zeros(2)}, r"beta2 of shape \(2,\) is none of HeavyBall with 3"),
        ({"nu": np.zeros(3)}, r"nu of shape \(3,\) is none of HeavyBall"),
        ({"beta2": np.full(3, np.nan)}, "beta2 has values that are not finite"),
    ],
)
def test_learned_coefficients_that_are_not_the_recurrences(learned, message):
    with pytest.raises(InputError, match=message):
        recurrence_structure(heavy_ball(0.3), 3, learned)


def test_coefficients_for_another_depth_are_refused():
    class Short(Counting):
        def coefficients(self, depth):
            return super().coefficients(depth - 1)

    with pytest.raises(InputError, match="leading axis must be the depth, 3"):
        recurrence_structure(Short(), 3)


class Extrapolated:
    """A user's own sum over the history: C_k from y_k, and its memory of x_k - y_k.

    It counts its steps.
    """

    history = True

    def coefficients(self, depth):
        return {"gamma": np.linspace(0.2, 0.8, depth)}

    def init(self, x0):
        return (x0,), 0 * x0, 0

    def step(self, transform, state, c):
        xs, v, count = state
        v = c["gamma"] * (v + xs[-1] - xs[0])
        new = 0.5 * transform(xs[-2:], np.array([0.3, -2.0])[-len(xs) :]) + v
        return (*xs, new), v - 0.1 * count * new, count + 1

    def output(self, state):
        return state[0][-1]


class Window(Extrapolated):
    """A user's own: one array of its iterates, and a count that is an array."""

    def init(self, x0):
        return x0[None], jnp.ones(1)

    def step(self, transform, state, c):
        xs, count = state
        new = c["gamma"] * transform(tuple(xs), np.arange(1.0, len(xs) + 1))
        new = new - 0.1 * count * xs.sum(0)
        return jnp.concatenate([xs, new[None]]), count + 1


ALPHA, BETA = np.tril(np.random.default_rng(0).standard_normal((2, DEPTH, DEPTH)))


@pytest.mark.parametrize(
    "method",
    [HistorySum(ALPHA, 0.3), HistorySum(ALPHA, BETA), Extrapolated(), Window()],
    ids=["21", "18", "own", "window"],
)
def test_graph_of_a_history_computes_what_its_steps_compute(method):
    def t(j, k, x):
        return jnp.sin(x + 0.1 * j + k)

    coefficients = method.coefficients(DEPTH)
    state = method.init(jnp.array([0.3, -1.2]))
    for k in range(DEPTH):

        def combine(sources, alpha, k=k):
            first = k + 1 - len(sources)
            terms = (t(first + j, k, x) for j, x in enumerate(sources))
            return sum(a * term for a, term in zip(alpha, terms, strict=True))

        c = {
            name: v[k] if isinstance(v, tuple) or np.ndim(v) else v
            for name, v in coefficients.items()
        }
        state = method.step(combine, state, c)

    xs = [np.array([0.3, -1.2])]
    structure = recurrence_structure(method, DEPTH)
    for k in range(DEPTH):
        terms = [
            e.weight * (t(e.source, k, x) if e.through_transform else x)
            for e in structure.edges
            if e.target == k + 1
            for x in [xs[e.source]]
        ]
        xs.append(sum(terms))
    for actual, wanted in zip(xs, state[0], strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_densenet_has_no_plain_terms_and_agd_net_those_of_21():
    edges = recurrence_structure(HistorySum(), 4).edges
    assert len(edges) == 10
    assert all(e.through_transform and e.weight == 1 for e in edges)
    packed = np.arange(1.0, 7.0)
    edges = recurrence_structure(HistorySum(1, 0.1), 3, {"alpha": packed}).edges
    through, plain = np.zeros((2, 3, 3))
    for edge in edges:
        matrix = through if edge.through_transform else plain
        matrix[edge.target - 1, edge.source] = edge.weight
    np.testing.assert_allclose(through, [[1, 0, 0], [2, 3, 0], [4, 5, 6]], rtol=1e-6)
    np.testing.assert_allclose(plain, 0.1 * (np.eye(3) - h_matrix(3)), atol=1e-7)


def test_a_step_that_is_not_linear_has_no_graph():
    with pytest.raises(NoGraphError, match="a step of Anderson is not linear"):
        recurrence_structure(Anderson(), 3)


class Restarted(Counting):
    """A user's own: its count begins anew where x is negative."""

    def step(self, transform, state, c):
        count, x = super().step(transform, state, c)
        return jnp.where(x.sum() < 0, 0, count), x


class Midpoint(Counting):
    """A user's own: it applies T twice, to one path."""

    def step(self, transform, state, c):
        count, x = state
        return count + 1, transform((x + transform(x)) / 2)


@pytest.mark.parametrize(
    ("recurrence", "message"),
    [
        (Restarted(), "a step of Restarted is not linear"),
        (Midpoint(), "a step of Midpoint applies T 2 times, and to 1 of"),
    ],
)
def test_a_user_s_own_step_that_has_no_graph(recurrence, message):
    with pytest.raises(NoGraphError, match=message):
        recurrence_structure(recurrence, 3)


class Over(Extrapolated):
    """A user's own, over the history: a step of (combine, xs)."""

    def __init__(self, step):
        self._step = step

    def init(self, x0):
        return ((x0,),)

    def step(self, transform, state, c):
        (xs,) = state
        return ((*xs, self._step(transform, xs)),)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda t, xs: t((*xs[:-1], 1.5 * xs[-1] - 0.5 * xs[0])), "to what is no it"),
        (lambda t, xs: t((*xs[:-1], 2 * xs[-1])), "to what is no iterate"),
        (lambda t, xs: t(xs) + t(xs[-1:]), "or not once"),
        (lambda t, xs: xs[-1], "or not once"),
        (lambda t, xs: jnp.tanh(t(xs)), "is not linear"),
        (lambda t, xs: t(xs) + 1, "is not linear"),
        (lambda t, xs: t(xs) + jnp.tanh(xs[-1]), "is not linear"),
        (lambda t, xs: t(tuple(map(nn.relu, xs))), "is not linear"),
        (lambda t, xs: t(xs, [x.sum() for x in xs]), "is not linear"),
        (lambda t, xs: jnp.abs(xs[-1]).sum() * t(xs), "is not linear"),
    ],
)
def test_a_step_over_the_history_that_has_no_graph(step, message):
    with pytest.raises(NoGraphError, match=f"a step of Over .*{message}.*no graph"):
        recurrence_structure(Over(step), 3)


def test_an_iterate_that_is_combined_twice_has_an_edge_for_each():
    method = Over(lambda t, xs: t((xs[-1], xs[-1]), [2.0, 3.0]))
    edges = recurrence_structure(method, 2).edges
    assert [edge.weight for edge in edges] == [2, 3, 2, 3]


def test_a_last_step_without_t_has_its_plain_terms():
    method = Over(lambda t, xs: (len(xs) < 3) * t(xs) - 2 * xs[-1])
    last = [edge for edge in recurrence_structure(method, 3).edges if edge.target == 3]
    assert last == [(2, 3, -2, False)]


class Damped(Counting):
    """A user's own: a multiple of T alone."""

    def step(self, transform, state, c):
        return state[0], c["gamma"] * transform(state[1])


def test_an_output_that_is_always_0_is_the_start_alone():
    structure = recurrence_structure(Damped(), 2, {"gamma": np.zeros(2)})
    assert [node.label for node in structure.nodes] == ["x_{0}"]
    assert not structure.edges


@pytest.mark.parametrize("readout", ["x", "x_prime", "mean"])
def test_revnet_s_paths_have_their_names(readout):
    nodes = recurrence_structure(Coupled(readout), 2).nodes
    last = {node.label for node in nodes if node.column == 2}
    wanted = {"x": {"x_{2}"}, "x_prime": {"x'_{2}"}, "mean": {"x_{2}", "x'_{2}"}}
    assert last == wanted[readout]
