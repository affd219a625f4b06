"""θ_k, β_k and h_{k+1,j} of Nesterov's method, equations (3) and (5).

They are computed in double precision on the host, once: they depend on nothing but k.
"""

import numpy as np

from optnet_jax.recurrences.base import check_depth


def theta(n: int) -> np.ndarray:
    """Return θ_0..θ_{n-1}: θ_0 = 1, (1 - θ_k)/θ_k² = 1/θ_{k-1}² (3).

    Solved for the positive root: θ_k = θ_{k-1} (√(θ_{k-1}² + 4) - θ_{k-1}) / 2.

    >>> theta(3).round(6).tolist()
    [1.0, 0.618034, 0.455887]

    Args:
        n: how many, at least 1.

    Returns:
        [n] float64, falling like 2/k.

    Raises:
        InputError: n < 1.
    """
    values = np.ones(check_depth(n))
    for k in range(1, n):
        previous = values[k - 1]
        values[k] = previous * (np.sqrt(previous**2 + 4) - previous) / 2
    return values


def momentum(n: int) -> np.ndarray:
    """Return β_0..β_{n-1}: β_k = θ_k (1 - θ_{k-1}) / θ_{k-1} (3), β_0 := 0.

    θ_{-1} does not exist; x_{-1} = x_0 makes the first momentum term vanish, so β_0
    is never needed and set to 0.

    >>> momentum(4).round(6).tolist()
    [0.0, 0.0, 0.281754, 0.434043]

    Args:
        n: how many, at least 1.

    Returns:
        [n] float64, rising to 1.

    Raises:
        InputError: n < 1.
    """
    thetas = theta(n)
    betas = np.zeros(n)
    betas[1:] = thetas[1:] * (1 - thetas[:-1]) / thetas[:-1]
    return betas


def h_matrix(n: int) -> np.ndarray:
    """Return h of (5): row k holds h_{k+1,0..k}, with zeros to its right.

    h_{1,0} = 1; h_{k+1,k} = 1 + β_{k+1}; h_{k+1,k-1} = β_{k+1} (h_{k,k-1} - 1);
    h_{k+1,j} = β_{k+1} h_{k,j} for j ≤ k-2. Hence column 0 is 0 from row 1 on.

    >>> h_matrix(3).round(6).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.281754, 0.0], [0.0, 0.122293, 1.434043]]

    Args:
        n: the number of rows, at least 1.

    Returns:
        [n, n] float64, lower triangular.

    Raises:
        InputError: n < 1.
    """
    betas = momentum(check_depth(n) + 1)
    h = np.zeros((n, n))
    h[0, 0] = 1
    for k in range(1, n):
        beta = betas[k + 1]
        h[k, : k - 1] = beta * h[k - 1, : k - 1]
        h[k, k - 1] = beta * (h[k - 1, k - 1] - 1)
        h[k, k] = 1 + beta
    return h
