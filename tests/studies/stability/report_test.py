"""Made-up trials, one in each direction, and the verdict that they must give."""

import numpy as np
import pytest

from optnet_jax.studies.stability import plot
from optnet_jax.studies.stability import report as reports

SEEDS = tuple(range(6))


def cell(structure, depth, failed_rates):
    """A cell of three rates of which each seed fails at so many."""
    failed = np.arange(3)[:, None] >= 3 - np.array(failed_rates)[None, :]
    return {
        "structure": structure,
        "depth": depth,
        "normalize": True,
        "failed": failed.tolist(),
    }


def trial(ours, resnets, depth=110):
    cells = [cell(reports.HB_NET, depth, ours), cell(reports.RESNET, depth, resnets)]
    # Another depth, where it is the other way round: only the greatest counts.
    return [
        *cells,
        cell(reports.HB_NET, 20, resnets),
        cell(reports.RESNET, 20, ours),
    ]


@pytest.mark.parametrize(
    ("ours", "resnets", "expected"),
    [
        ([1] * 6, [2] * 6, "supported: of runs with 110 layers 6/18 of HB-Net's"),
        ([2] * 6, [1] * 6, "reversed: "),
        ([1] * 6, [1] * 6, "not supported: "),
        ([0, 0, 2, 2, 1, 1], [1, 1, 1, 1, 1, 1], "not supported: "),
    ],
)
def test_each_direction_has_its_verdict(ours, resnets, expected):
    assert reports.judge(SEEDS, trial(ours, resnets), True).startswith(expected)


def test_too_few_seeds_cannot_tell():
    cells = trial([0] * 4, [3] * 4)
    assert reports.judge(SEEDS[:4], cells, True).startswith("cannot tell with n = 4")


def test_the_largest_rate_is_that_before_the_first_failure():
    failed = [[False, False, True], [False, True, False], [True, False, False]]
    found = reports.largest_rates({"failed": failed}, (0.1, 1.0, 10.0))
    np.testing.assert_array_equal(found, [1.0, 0.1, 0.0])


def test_a_seed_that_diverged_counts_as_infinitely_bad():
    loss = [[0.1, 0.2, None], [None, None, 0.3]]
    np.testing.assert_array_equal(
        reports.median_loss({"final_loss": loss}), [0.2, np.inf]
    )


def test_norms_that_overflow_are_dashes_and_gaps(tmp_path):
    entry = {
        "name": "explodes",
        "signal": [1.0, 2.0, None],
        "gradient": [None, 3.0, 1.0],
        "signal_growth": 2.0,
        "gradient_growth": None,
    }
    row = reports._norm_table({"norms": [entry]}).splitlines()[-1]
    assert [each.strip() for each in row.split("|")[1:-1]] == [
        "explodes", "-", "2.000", "-", "-",
    ]  # fmt: skip
    assert plot.draw_norms([entry], tmp_path / "norms.png").stat().st_size > 10_000
