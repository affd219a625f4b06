import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from optnet_jax.inspect.graph import dense_structure, recurrence_structure
from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    HeavyBall,
    HistorySum,
    Nesterov,
    NesterovSum,
    TwoPath,
    heavy_ball,
    iterate,
)
from optnet_jax.structures.dense_stage import DenseStage

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


RECURRENCES = [
    GradientDescent(),
    heavy_ball(0.3),
    HeavyBall([0.5, -1.0, 0.2, 0.0, 2.0], -0.7),
    Nesterov(),
    Nesterov(1.0, 0.0),
    NesterovSum(),
    HistorySum.nesterov(DEPTH),
    ADMM(),
    TwoPath(readout="x"),
    TwoPath(alpha=0.2, beta=-0.4, memory=1.0, readout="x"),
]


@pytest.mark.parametrize("recurrence", RECURRENCES, ids=lambda r: type(r).__name__)
def test_graph_computes_what_the_recurrence_computes(recurrence):
    # Compared in the recurrence's own arithmetic: T is not linear.
    transforms = (lambda x: jnp.sin(2 * x + 0.3), lambda x: jnp.cos(1.5 * x) - 0.2)
    x0 = jnp.array([0.3, -1.2])
    paths = getattr(recurrence, "paths", 1)
    operator = transforms[::-1] if paths == 2 else transforms[0]
    structure = recurrence_structure(recurrence, DEPTH)
    (last,) = [i for i, n in enumerate(structure.nodes) if n.label == f"x_{{{DEPTH}}}"]
    np.testing.assert_allclose(
        _evaluate(structure, x0, transforms)[last],
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


def test_dense_graph_computes_what_the_stage_computes():
    alpha = np.tril(np.random.default_rng(0).standard_normal((DEPTH, DEPTH)))

    class Combination(nn.Module):
        def __call__(self, sources, alpha):
            k = len(sources)
            return sum(
                alpha[j] * jnp.sin(z + 0.1 * j + k) for j, z in enumerate(sources)
            )

    z0 = jnp.array([0.3, -1.2])
    stage = DenseStage(Combination(), DEPTH, alpha=alpha, beta=0.3)
    expected = jax.jit(lambda z0: stage.apply({}, z0))(z0)

    structure = dense_structure(DEPTH, alpha, 0.3)
    z = [np.asarray(z0)]
    for k in range(1, DEPTH + 1):
        terms = [
            e.weight
            * (
                np.sin(z[e.source] + 0.1 * e.source + k)
                if e.through_transform
                else z[e.source]
            )
            for e in structure.edges
            if e.target == k
        ]
        z.append(sum(terms))
    for actual, wanted in zip(z, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


def test_densenet_has_no_plain_terms():
    structure = dense_structure(4)
    assert len(structure.edges) == 10
    assert all(e.through_transform and e.weight == 1 for e in structure.edges)
