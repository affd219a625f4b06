"""The tables over cells whose numbers are known."""

from optnet_jax.studies.table2 import tables


def rows(text, first):
    """The cells of the table rows that start so."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def test_ours_stands_over_the_papers(report):
    lines = tables.comparison_table(report).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| GD (7)"))
    block = [line.split("|")[3].strip() for line in lines[at : at + 4]]
    assert block == ["1.00644 ± 0.00141", "0.00644 ± 0.00000", "1.00644", "+0.00000"]
    assert "-0.00755" in lines[-1]  # AGD2: 1 - 0.0001 - 1.00745


def test_a_depth_that_the_paper_has_not_is_left_open(report):
    for cell in report["cells"]:
        cell["depth"] = 12
    report["config"]["depths"] = [12]
    lines = tables.comparison_table(report).splitlines()
    assert lines[-1].split("|")[3].strip() == lines[-2].split("|")[3].strip() == "-"


def test_the_order_is_told_at_every_time(report):
    table = tables.timing_table(report)
    (before, at, after) = (rows(table, t)[0] for t in ("10", "100", "200"))
    assert before[-1] == "agd2 < agd < gd < hb"
    assert at[-1] == "agd2 < agd < hb < gd"
    assert after[-1] == "agd2 < hb < agd < gd"
    assert at[2] == "+0.00644"


def test_readout_ablation_lists_only_what_was_trained(report):
    table = tables.readout_table(report)
    assert rows(table, "AGD, AGD2's read-out")[0][3].startswith("-0.00005")
    assert not rows(table, "GD, AGD2's read-out")


def test_the_cost_of_every_cell_is_told(report):
    report["cells"] = report["cells"][:2]
    report["cells"][1] |= {"depth": 20, "wall_seconds": 71.26}
    table = tables.cost_table(report)
    assert rows(table, "structure")[0] == ["structure", "10 layers", "20 layers"]
    assert rows(table, "GD (7)")[0][1:] == ["1.5", "-"]
    assert rows(table, "HB (11)")[0][1:] == ["-", "71.3"]
