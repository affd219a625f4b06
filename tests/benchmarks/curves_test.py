import argparse

import pytest

from optnet_jax.benchmarks import batch, curves, dense, depth, simulation
from optnet_jax.benchmarks.jax_runs import Program


class Fake(curves.Curves):
    axis = "layers"
    values = (1, 2)
    batch = 1

    def programs(self, value, options):
        return {
            "plain": lambda: Program(lambda: None, 2.0, 10**6 * value, None),
            "plain, remat": lambda: Program(lambda: None, 4.0, None, None),
        }


def options(suite, **changed):
    parser = argparse.ArgumentParser()
    suite.add_options(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **changed})


def test_curves_are_measured_and_laid_out():
    suite = Fake()
    rows = suite.run(options(suite, repeats=2))
    assert [(row["curve"], row["at"]) for row in rows] == [
        ("plain", 1),
        ("plain, remat", 1),
        ("plain", 2),
        ("plain, remat", 2),
    ]
    for row in rows:  # nothing runs in no time, and a clock may not see it
        row["seconds"]["median"] = 0.012
    lines = [" ".join(line.split()) for line in suite.markdown(rows).splitlines()]
    assert lines[0] == (
        "| form | layers | ms a step | temporaries (MB) | compile time (s) |"
    )
    assert lines[3] == "| plain | 2 | 12.0 | 2.00 | 2.00 |"
    assert lines[4] == "| plain, remat | 1 | 12.0 | - | 4.00 |"


def test_a_missing_memory_is_left_out_of_the_figure(tmp_path):
    suite = Fake()
    rows = suite.run(options(suite, repeats=1))
    rows = [row | {"seconds": {"median": 0.1}} for row in rows]
    file = tmp_path / "figure.png"
    suite.draw(rows, file)
    assert file.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("suite", "value", "forms"),
    [
        (depth.SUITE, 14, 4),
        (depth.SUITE, 116, 3),
        (batch.SUITE, 2, 4),
        (dense.SUITE, 2, 4),
        (simulation.SUITE, 2, 10),
    ],
)
def test_every_value_has_its_forms(suite, value, forms):
    assert len(suite.programs(value, options(suite))) == forms


def test_one_step_of_a_deep_network_and_of_a_dense_block():
    # Written out costs the most memory, reversible the least.
    programs = depth.SUITE.programs(14, options(depth.SUITE, batch=2))
    written, reversible = programs["written out"](), programs["reversible"]()
    assert reversible.temporary_bytes < written.temporary_bytes
    reversible.run()
    dense.SUITE.programs(2, options(dense.SUITE, batch=1))["AGD-Net"]().run()
