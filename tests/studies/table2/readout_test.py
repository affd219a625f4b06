import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import (
    ADMM,
    GradientDescent,
    Nesterov,
    NesterovSum,
    iterate,
    momentum,
)
from optnet_jax.studies.table2.readout import Extrapolated

DEPTH = 7
X0 = jnp.array([0.3, -1.2, 2.0])
WEIGHTS = np.random.default_rng(0).normal(size=(DEPTH, 3, 3)).astype(np.float32)


def transform(x, w):
    return jax.nn.sigmoid(w @ x)


def trajectory(recurrence):
    return iterate(recurrence, transform, X0, DEPTH, weights=WEIGHTS, trajectory=True)


@pytest.mark.parametrize("recurrence", [GradientDescent(), Nesterov(), ADMM()])
def test_it_extrapolates_the_methods_own_sequence(recurrence):
    xs = trajectory(recurrence)
    betas = momentum(DEPTH + 1)[1:, None]
    ys = xs[1:] + betas.astype(np.float32) * (xs[1:] - xs[:-1])
    np.testing.assert_allclose(trajectory(Extrapolated(recurrence))[1:], ys, atol=1e-6)


def test_agd_so_read_out_is_agd2_at_every_depth():
    np.testing.assert_allclose(
        trajectory(Extrapolated(Nesterov())), trajectory(NesterovSum()), atol=1e-6
    )
