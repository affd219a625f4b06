"""Is one network better than another, or luckier? A test over paired seeds.

Two runs with one seed see the same batches in the same order, with the same crops: what
is left between them is the network and its initial weights. Under the hypothesis that
the two networks do not differ, each difference of a pair is as likely to have the other
sign, so the observed mean is held against all 2ⁿ choices of signs (Fisher's sign-flip
test; from 17 seeds on, against as many random ones). No distribution is assumed.

What the test cannot show: with n seeds no p-value is below 2 / 2ⁿ, so five seeds can
never reach 5 % (the least is 6.25 %), six can. The test split is the same in all runs:
the p-value is about another seed, not about other images. And a difference that is not
found is not a proof of equality; the interval says how large it may still be.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from optnet_jax.errors import InputError

CONFIDENCE = 0.95
POWER = 0.8
MOST_SIGNS = 2**16


def compare(
    errors: Mapping[int, float], baseline_errors: Mapping[int, float]
) -> dict[str, Any] | None:
    """Compare the errors of a network with those of its baseline, by seed.

    Returns:
        ``None`` if no seed was run with both; else ``seeds``, ascending;
        ``differences`` by seed, below 0 where the network is better; their ``mean``,
        with Student's 95 % ``interval``, ``None`` for one seed; the two-sided
        ``p_value`` of the sign-flip test and what it is at least with so many seeds,
        ``least_p_value``; and ``detectable``, the difference that they find four times
        in five by Student's test at the observed spread, ``None`` for one seed.
    """
    seeds = sorted(errors.keys() & baseline_errors.keys())
    if not seeds:
        return None
    differences = [errors[seed] - baseline_errors[seed] for seed in seeds]
    n, detectable = len(seeds), None
    if n > 1:
        quantiles = stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], n - 1)
        detectable = float(quantiles.sum() * statistics.stdev(differences) / n**0.5)
    return {
        "seeds": seeds,
        "differences": differences,
        "mean": statistics.fmean(differences),
        "interval": student_interval(differences),
        "p_value": sign_flip_p_value(differences),
        "least_p_value": 2 / 2**n,
        "detectable": detectable,
    }


def verdict(
    found: Mapping[str, Any], p_value: float, least: float, tests: int = 1
) -> str:
    """Return the verdict at a p-value that is corrected for a number of tests.

    Where the least that it could be with so many seeds is above 5 %, too, the verdict
    says how many could tell, whatever the other tests find.
    """
    if p_value <= 1 - CONFIDENCE:
        return "better" if found["mean"] < 0 else "worse"
    if least > 1 - CONFIDENCE:
        among = f" and {tests} tests" if tests > 1 else ""
        enough = math.ceil(math.log2(2 * tests / (1 - CONFIDENCE)))
        return (
            f"cannot tell with n = {len(found['seeds'])}{among}, {enough} seeds could"
        )
    return "no more than chance"


def sign_flip_p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the sign-flip test.

    It is the share of the 2ⁿ choices of signs whose sum is at least as far from 0; of
    ``MOST_SIGNS`` random ones where there are more.

    Raises:
        InputError: without differences.

    >>> sign_flip_p_value([-1.0, -2.0, -0.5])
    0.25
    """
    if not differences:
        raise InputError("a paired test needs at least one pair")
    if len(differences) == 1:
        return 1.0
    values = np.asarray(differences, float)
    test = stats.permutation_test(
        (values / (np.abs(values).max() or 1.0),),
        _distance,
        permutation_type="samples",
        alternative="greater",
        n_resamples=MOST_SIGNS,
        batch=2**12,
        rng=0,
    )
    return float(test.pvalue)


def _distance(values: np.ndarray, axis: int) -> np.ndarray:
    """Return how far from 0 sums are, equal where only rounding tells them apart."""
    return np.abs(values.sum(axis)).round(9)


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean; ``None`` for fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half
