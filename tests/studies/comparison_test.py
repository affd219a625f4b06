import itertools
import random

import numpy as np
import pytest
from scipy import stats

from optnet_jax.errors import InputError
from optnet_jax.studies import comparison


def enumerated(counts):
    """The same test, literally: every choice of signs, in whole numbers."""
    sums = [
        sum(s * c for s, c in zip(signs, counts, strict=True))
        for signs in itertools.product((-1, 1), repeat=len(counts))
    ]
    return sum(abs(value) >= abs(sum(counts)) for value in sums) / len(sums)


@pytest.mark.parametrize("images", [360, 10_000, 50_000])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_enumeration_of_all_signs(images, seed):
    draw = random.Random(seed)
    before = [draw.randint(0, 30) for _ in range(9)]
    after = [draw.randint(0, 30) for _ in range(9)]
    differences = [
        100 * a / images - 100 * b / images for a, b in zip(after, before, strict=True)
    ]
    counts = [a - b for a, b in zip(after, before, strict=True)]
    assert comparison.sign_flip_p_value(differences) == enumerated(counts)


def test_more_pairs_than_can_be_enumerated_are_drawn():
    # 40 pairs, all +1 or -1: the sum is binomial.
    differences = [-1.0] * 28 + [1.0] * 12
    expected = stats.binomtest(12, 40).pvalue
    assert comparison.sign_flip_p_value(differences) == pytest.approx(
        expected, abs=2e-3
    )
    assert comparison.sign_flip_p_value(differences[:17]) == pytest.approx(0, abs=1e-3)


# Misclassified test images of digits, seeds 0-9: the README's table is made of them.
DIGITS = {
    "resnet": (4, 4, 3, 4, 3, 8, 2, 7, 3, 4),
    "hb": (5, 0, 5, 2, 6, 4, 3, 3, 3, 4),
    "densenet": (4, 3, 3, 4, 2, 2, 2, 3, 3, 3),
    "agd": (5, 1, 5, 5, 2, 2, 4, 3, 2, 5),
}


@pytest.mark.parametrize(
    ("method", "baseline", "printed"),
    [
        ("hb", "resnet", "-0.19 -0.72 +0.33 0.48"),
        ("agd", "densenet", "+0.14 -0.13 +0.41 0.38"),
    ],
)
def test_the_readmes_differences(method, baseline, printed):
    errors = {
        name: {seed: 100 * count / 360 for seed, count in enumerate(DIGITS[name])}
        for name in (method, baseline)
    }
    found = comparison.compare(errors[method], errors[baseline])
    assert found is not None
    assert found["interval"] is not None
    low, high = found["interval"]
    assert (
        f"{found['mean']:+.2f} {low:+.2f} {high:+.2f} {found['p_value']:.2g}" == printed
    )


@pytest.mark.parametrize(
    ("number", "verdict"), [(5, "cannot tell with n = 5, 6 seeds could"), (6, "better")]
)
def test_five_seeds_cannot_reach_five_percent_and_six_can(number, verdict):
    found = comparison.compare(
        dict.fromkeys(range(number), 1.0), dict.fromkeys(range(number), 2.0)
    )
    assert found["p_value"] == found["least_p_value"] == 2 / 2**number
    assert comparison.verdict(found, found["p_value"], 2 / 2**number) == verdict


def test_false_alarms_are_as_rare_as_promised():
    """Networks that do not differ: at most 5 % may seem to."""
    draw = np.random.default_rng(0)
    alarms = sum(
        comparison.sign_flip_p_value(list(100 * draw.integers(-6, 7, 8) / 360)) <= 0.05
        for _ in range(400)
    )
    assert 0 < alarms <= 0.05 * 400 + 2 * (400 * 0.05 * 0.95) ** 0.5


def test_pairs_by_seed_and_leaves_out_the_unpaired():
    found = comparison.compare({0: 1.0, 2: 4.0, 5: 9.0}, {5: 8.0, 0: 3.0, 1: 0.0})
    assert found["seeds"] == [0, 5]
    assert found["differences"] == [-2.0, 1.0]
    assert found["mean"] == -0.5
    assert found["interval"] == pytest.approx(
        stats.ttest_1samp([-2.0, 1.0], 0).confidence_interval(0.95)
    )


def test_a_single_pair_has_no_interval():
    found = comparison.compare({0: 1.0}, {0: 2.0})
    assert found["interval"] is None
    assert found["p_value"] == 1


def test_without_a_common_seed_there_is_nothing_to_compare():
    assert comparison.compare({0: 1.0}, {1: 1.0}) is None
    with pytest.raises(InputError, match="at least one pair"):
        comparison.sign_flip_p_value([])


def test_a_verdict_among_other_tests_needs_more_seeds():
    errors = {seed: 1.0 + 0.01 * seed for seed in range(7)}
    found = comparison.compare(errors, dict.fromkeys(range(7), 2.0))
    least = found["least_p_value"]
    assert comparison.verdict(found, least, least) == "better"
    assert comparison.verdict(found, 2 * least, 2 * least, tests=2) == "better"
    assert comparison.verdict(found, 1.0, 2 * least, tests=2) == "no more than chance"
    assert (
        comparison.verdict(found, 4 * least, 4 * least, 4)
        == "cannot tell with n = 7 and 4 tests, 8 seeds could"
    )


def test_the_detectable_difference_is_found_four_times_in_five():
    rng = np.random.default_rng(0)
    base = dict.fromkeys(range(8), 0.0)
    measured = comparison.compare(dict(enumerate(rng.normal(size=8))), base)
    assert measured["detectable"] is not None
    shift = measured["detectable"] / np.std(measured["differences"], ddof=1)
    draws = rng.normal(shift, size=(4000, 8))
    t = draws.mean(1) / draws.std(1, ddof=1) * np.sqrt(8)
    found = np.mean(np.abs(t) > stats.t.ppf(0.975, 7))
    assert found == pytest.approx(0.8, abs=0.05)


def test_small_differences_are_tested_as_large_ones_and_none_is_no_evidence():
    large = np.random.default_rng(0).normal(1, 1, 8)
    p_value = comparison.sign_flip_p_value(large.tolist())
    assert comparison.sign_flip_p_value((1e-11 * large).tolist()) == p_value
    assert comparison.sign_flip_p_value([0.0] * 8) == 1
