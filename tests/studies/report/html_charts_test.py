import re
from xml.etree import ElementTree

import numpy as np
import pytest

from optnet_jax.studies.report import html_charts as charts


def line(y, **fields):
    x = np.arange(1.0, len(y) + 1)
    return charts.Line("a <line>", x, np.array(y, float), "red", **fields)


def points(svg):
    """Of the first path: lists of (x, y), one for each unbroken piece."""
    path = ElementTree.fromstring(svg).find("path").get("d")
    return [
        [tuple(map(float, point.split(","))) for point in piece.split("L")]
        for piece in path.split("M")[1:]
    ]


def test_a_line_stands_where_its_numbers_are():
    (piece,) = points(charts.line_chart([line([0, 5, 10])], "epoch", "error"))
    (x1, y1), (x2, y2), (x3, y3) = piece
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert y1 == charts.HEIGHT - charts.BOTTOM
    assert y3 == charts.TOP


def test_a_logarithmic_axis_makes_factors_equal_steps():
    svg = charts.line_chart([line([1, 0.1, 0.01])], "epoch", "loss", log=True)
    ((_, y1), (_, y2), (_, y3)) = points(svg)[0]
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.2)
    assert {"1", "0.1", "0.01"} <= set(re.findall(r">([\d.]+)</text>", svg))


@pytest.mark.parametrize("log", [False, True])
def test_what_is_not_finite_breaks_the_line(log):
    svg = charts.line_chart([line([1, np.nan, 2, np.inf])], "epoch", "loss", log=log)
    assert [len(piece) for piece in points(svg)] == [1, 1]
    assert "nan" not in svg


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_nothing_to_draw_is_said(values):
    assert "no values yet" in charts.line_chart([line(values)], "epoch", "loss")


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [0.0, 0.0]])
def test_constant_and_single_values_have_a_place(values):
    svg = charts.line_chart([line(values)], "epoch", "alpha")
    for _, y in points(svg)[0]:
        assert charts.TOP < y < charts.HEIGHT - charts.BOTTOM


def test_labels_are_escaped():
    assert "a &lt;line&gt;" in charts.line_chart([line([1, 2])], "epoch", "loss")


def test_a_heat_map_has_a_cell_for_each_finite_entry():
    values = np.array([[2.0, np.nan], [-1.0, 0.0]])
    cells = ElementTree.fromstring(charts.heat_map(values, "alpha", "k", "j"))
    fills = [cell.get("fill") for cell in cells.findall("rect")]
    assert fills == [charts.diverging(1), charts.diverging(-0.5), charts.diverging(0)]
    titles = [cell.find("title").text for cell in cells.findall("rect")]
    assert titles[1] == "alpha, k 2, j 0: -1"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 8, [-4, -2, 0, 2, 4, 6, 8])],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    found = charts.ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if low == 0:
        assert found == pytest.approx(expected)
