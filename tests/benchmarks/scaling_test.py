import argparse

import pytest

from optnet_jax.benchmarks import scaling
from optnet_jax.errors import InputError


def options(*arguments):
    parser = argparse.ArgumentParser()
    scaling.SUITE.add_options(parser)
    small = ["--network=lenet5", "--batch=1", "--image-size=32", "--repeats=2"]
    return parser.parse_args([*small, *arguments])


def test_the_sharded_step_is_put_beside_the_single_one():
    (row,) = scaling.SUITE.run(options("--devices=2", "--processes="))
    assert (row["processes"], row["devices"], row["images"]) == (1, 2, 2)
    assert row["ratio"]["median"] > 0
    cells = scaling.SUITE.markdown([row]).splitlines()[2].split("|")
    assert [cell.strip() for cell in cells[1:3]] == ["1 x 2", "2"]


@pytest.mark.long
def test_processes_step_together():
    row = scaling.SUITE.run(options("--devices=1", "--processes=2"))[1]
    assert (row["processes"], row["devices"], row["images"]) == (2, 1, 2)
    assert row["ratio"]["median"] > 0


def test_a_worker_that_fails_says_why():
    with pytest.raises(InputError, match="a process of 1 failed.*resnet57"):
        scaling.SUITE.run(options("--network=resnet57", "--processes="))
