import pytest

from optnet_jax.benchmarks import scaling


def measured(options, layouts):
    small = ("--network=lenet5", "--batch=1", "--repeats=2")
    return scaling.SUITE.run(options(scaling.SUITE, f"--layouts={layouts}", *small))


def test_the_sharded_step_is_put_beside_the_single_one(options):
    (row,) = measured(options, "1x2")
    assert row["ratio"]["median"] > 0
    cells = scaling.SUITE.markdown([row]).splitlines()[2].split("|")
    assert [cell.strip() for cell in cells[1:3]] == ["1 x 2", "2"]


@pytest.mark.long
def test_processes_step_together(options):
    (row,) = measured(options, "2x1")
    assert (row["case"], row["images"]) == ("2 x 1", 2)
    assert row["ratio"]["median"] > 0
