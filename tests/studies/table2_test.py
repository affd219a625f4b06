"""The plan, the report over made-up cells, and the study end to end, small."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest
from optnet_jax.configs import table2 as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HeavyBall, NesterovSum
from optnet_jax.studies import table2
from optnet_jax.studies.markdown import select, with_sd
from optnet_jax.studies.simulation import readings
from optnet_jax.studies.table2 import (
    PAPER,
    STUDY,
    Table2Config,
    make_network,
    train_cell,
)


def small_config():
    config = config_file.get_config()
    config.task = {"samples": 40, "dim": 8}
    config.batch_size, config.steps = 10, 6
    config.seeds, config.depths = (0, 1), (3,)
    config.structures = ("gd", "agd2", "agd2_slow")
    config.readout = {"structures": ("agd_readout",), "depths": (3,)}
    config.timing = {"depth": 3, "checkpoints": (2, 9)}
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_study):
    """The finished study: its report, and its text."""
    return run_study(STUDY, small_config(), tmp_path_factory.mktemp("table2"))


def test_it_leaves_its_files(finished):
    report, text = finished
    assert "| GD (7) " in text
    assert {"device", "versions", "config", "paper", "wall_seconds"} <= set(report)
    assert report["versions"]["jax"]
    assert [c["structure"] for c in report["cells"]] == [
        "gd",
        "agd2",
        "agd2_slow",
        "agd_readout",
    ]


def test_a_cell_holds_every_seed_and_its_excess(finished):
    report, _ = finished
    for cell in report["cells"]:
        assert cell["seeds"] == [0, 1]
        assert cell["checkpoints"] == [2, 6, 9]
        for i in range(2):
            excess = cell["mse"][i][1] - cell["target_power"][i]
            assert cell["final"]["excess"][i] == pytest.approx(excess)


M = (1.001, 0.999)
CHECKPOINTS = (100, 1000, 2000)
# Excess over M of each structure at the checkpoints.
EXCESS = {
    "gd": (0.05, 0.00644, 0.003),
    "hb": (0.06, 0.00500, 0.002),
    "agd": (0.04, 0.00270, 0.0025),
    "agd2": (0.01, -0.0001, -0.0001),
    "agd_readout": (0.01, -0.00005, -0.0001),
}


def made_up(structure, depth, excess):
    found = {
        "mse": [[m + e for e in excess] for m in M],
        "output_power": [[e + 0.0001 for e in excess] for _ in M],
        "output_spread": [[1e-6 for _ in excess] for _ in M],
        "target_power": list(M),
        "constant_mse": [m - 0.0001 for m in M],
    }
    return {
        "structure": structure,
        "label": readings()[structure].label,
        "column": readings()[structure].column,
        "depth": depth,
        "seeds": [0, 1],
        "checkpoints": list(CHECKPOINTS),
        **found,
        "final": table2._final(found, CHECKPOINTS.index(1000)),
        "wall_seconds": 1.5,
    }


@pytest.fixture
def report():
    config = config_file.get_config()
    config.seeds, config.depths = (0, 1), (10,)
    config.structures = ("gd", "hb", "agd", "agd2")
    config.readout = {"structures": ("agd_readout",), "depths": (10,)}
    config.timing.checkpoints = CHECKPOINTS
    cells = [made_up(name, 10, excess) for name, excess in EXCESS.items()]
    return STUDY.report(Table2Config.of(config), cells)


def test_final_is_taken_at_the_steps_of_the_table(report):
    final = select(report["cells"], structure="agd")[0]["final"]
    assert final["mse"] == pytest.approx([1.001 + 0.0027, 0.999 + 0.0027])
    assert final["excess"] == pytest.approx([0.0027, 0.0027])
    assert json.loads(json.dumps(report)) == report


def test_the_settings_are_told(report):
    text = STUDY.markdown(report)
    assert "10,000 pairs" in text
    assert "rate 0.1 (lower rate: 0.01), batch 50, 1,000 steps" in text
    assert "standard deviation 0.0014" in text
    assert "M = mean f² of the draw is 0.99900 to 1.00100" in text
    assert "MSE - M = -0.00010 ± 0.00000" in text
    report["config"]["batch_size"] = 10_000
    assert "full batch" in STUDY.markdown(report)


def test_the_papers_table_is_in_the_json(report):
    assert report["paper"]["AGD2"]["40"] == PAPER["AGD2"][40] == 0.99964


def test_the_readout_is_explained(report):
    text = STUDY.markdown(report)
    assert "differs from AGD2 by 5.0e-05 at most" in text
    assert "the excess is mean out² to within 1.0e-04" in text


def test_without_the_ablation_nothing_is_said_of_it(report):
    report["cells"] = select(report["cells"], structure="gd")
    report["config"]["structures"] = ["gd"]
    text = STUDY.markdown(report)
    assert "differs from AGD2" not in text
    assert "the excess is mean out² to within" in text
    assert STUDY.figures(report)


def rows(text, first):
    """The cells of the table rows that start so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def test_ours_stands_beside_the_papers_and_is_compared_with_gd(report):
    table = table2.comparison_table(report)
    assert rows(table, "GD (7)")[0][1:] == ["0.00644 ± 0.00000", "0.00644", ""]
    # 0.0027 - 0.00644; two seeds: p = 1/2, and of three such tests 1.
    assert rows(table, "AGD (12)")[0][1:] == [
        "0.00270 ± 0.00000", "0.00270", "-0.00374 (p = 1)",
    ]  # fmt: skip
    compared = {each["structure"]: each for each in report["compared"]}
    assert set(compared) == {"hb", "agd", "agd2"}
    assert compared["agd"]["p_value"] == 0.5
    assert compared["agd"]["verdict"] == (
        "cannot tell with n = 2 and 3 tests, 7 seeds could"
    )


def test_only_the_tests_of_the_table_are_corrected_for(report):
    """What is trained for the timing or the read-out alone is in no column of it."""
    rows = [{**cell, "depth": depth} for depth in (10, 4) for cell in report["cells"]]
    config = Table2Config.of(report["config"])
    compared = table2.conclude(config, rows)["compared"]
    assert [each["p_corrected"] for each in compared] == [1.0] * 3
    assert {each["depth"] for each in compared} == {10}


@pytest.mark.parametrize("arguments", ["", "full"])
def test_the_recipes_compare_all_that_they_train_but_the_read_out(arguments):
    config = config_file.get_config(arguments)
    cells = [made_up("gd", c.depth, EXCESS["gd"]) | {"structure": c.structure}
             for c in plan(config)]  # fmt: skip
    compared = table2.conclude(Table2Config.of(config), cells)["compared"]
    assert len(compared) == 6 * len(config.depths)


def test_the_slow_reading_is_explained_where_it_is(report, finished):
    said = "`agd2_slow` is AGD2 at 0.1 times the rate."
    assert said in finished[1]
    assert said not in STUDY.markdown(report)


def test_a_depth_that_the_paper_has_not_is_left_open(report):
    for cell in (*report["cells"], *report["compared"]):
        cell["depth"] = 12
    report["config"]["depths"] = [12]
    assert rows(table2.comparison_table(report), "AGD (12)")[0][2] == "-"


def test_the_order_is_told_at_every_time(report):
    table = table2.timing_table(report)
    (before, at, after) = (rows(table, t)[0] for t in ("10", "100", "200"))
    assert before[-1] == "agd2 < agd < gd < hb"
    assert at[-1] == "agd2 < agd < hb < gd"
    assert after[-1] == "agd2 < hb < agd < gd"
    assert at[2] == "+0.00644"


def test_readout_ablation_lists_only_what_was_trained(report):
    table = table2.readout_table(report)
    assert rows(table, "AGD, AGD2's read-out")[0][2].startswith("-0.00005")
    assert not rows(table, "GD, AGD2's read-out")


def plan(config=None):
    return table2.plan(Table2Config.of(config or config_file.get_config()))


def cell_of(structure, config, depth=3):
    config.structures, config.depths = (structure,), (depth,)
    config.timing.depth, config.readout.depths = depth, ()
    (cell,) = plan(config)
    return cell


def test_the_plan_has_every_cell_once():
    cells = plan()
    assert len({cell.name for cell in cells}) == len(cells) == 7 * 2 + 2
    by_name = {cell.name: cell for cell in cells}
    assert by_name["gd_depth40"].checkpoints == (1000,)
    assert by_name["agd_readout_depth10"].checkpoints[-1] == 2000
    assert 1000 in by_name["hb_depth10"].checkpoints
    assert by_name["admm_separate_depth40"].work == 2 * by_name["gd_depth40"].work


def test_a_depth_for_the_timing_alone_is_added():
    config = config_file.get_config()
    config.depths, config.timing.depth = (20,), 5
    assert {c.depth for c in plan(config) if c.structure == "agd"} == {5, 20}


def test_full_is_a_thousand_full_batches():
    config = config_file.get_config("full")
    assert (config.steps, config.batch_size) == (1000, config.task.samples)
    assert config.name != config_file.get_config().name


def test_a_cells_network_is_the_structure_untied():
    config = small_config()
    config.network.use_bias = True
    cell = cell_of("admm_separate", config)
    network = make_network(cell, Table2Config.of(config))
    shapes = jax.eval_shape(network.init, jax.random.key(0), jax.numpy.zeros(8))
    layers = shapes["params"]["layers"]
    assert set(layers) == {"transform", "transform_prime"}
    assert layers["transform"]["linear"]["kernel"].shape == (3, 8, 8)
    assert layers["transform_prime"]["linear"]["bias"].shape == (3, 8)


def test_the_slow_reading_has_the_lower_rate():
    config = small_config()
    config.optimizer.learning_rate = 0.5
    cells = [cell_of(structure, config) for structure in ("agd2", "agd2_slow")]
    assert [c.learning_rate for c in cells] == pytest.approx([0.5, 0.05])
    assert cells[1].recurrence == NesterovSum()


def test_divergence_is_said_and_not_tabulated():
    config = small_config()
    cell = cell_of("gd", config, depth=2)
    config = Table2Config.of(config)
    with pytest.raises(InputError, match=r"2 layers diverged: .*another --workdir"):
        train_cell(dataclasses.replace(cell, learning_rate=float("inf")), config)


def test_a_printed_number_is_measured_again():
    """GD, 10 layers: the page has the mean of ten seeds; the first is trained anew.

    On every JAX: the training is short and smooth, so that rounding does not grow.
    """
    results = Path(__file__).parents[2] / "docs" / "results"
    printed = json.loads((results / "seeds.json").read_text("utf-8"))["table2"]
    excess = printed["excess"]["gd_depth10"]
    page = (results / "tables.md").read_text("utf-8")
    assert f"| GD (7) | {with_sd(excess)} |" in page
    config = config_file.get_config()
    config.seeds, config.timing.checkpoints = (0,), (config.steps,)
    cell = cell_of("gd", config, depth=10)
    found = train_cell(cell, Table2Config.of(config))
    assert found["final"]["excess"] == pytest.approx(excess[:1], abs=2e-6)


def test_every_column_of_the_paper_has_a_reading_and_every_depth():
    assert {r.column for r in readings().values()} >= set(PAPER)
    assert all(list(column) == [10, 20, 30, 40] for column in PAPER.values())


def test_labels_are_distinct():
    assert len({c.label for c in readings().values()}) == len(readings())


def test_heavy_ball_gets_its_beta():
    assert readings(0.4)["hb"].recurrence == HeavyBall(0.4, -0.4)
