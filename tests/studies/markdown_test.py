import pytest

from optnet_jax.studies.markdown import markdown_table, pivot, with_sd


def test_a_table_is_padded_and_of_equal_rows():
    text = markdown_table(["a", "value"], [["long name", "1"], ["b", "12345678"]])
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "| long name |        1 |"
    with pytest.raises(ValueError, match="zip"):
        markdown_table(["a", "value"], [["one cell"]])


def test_deviation_is_the_samples():
    assert with_sd([1.0, 2.0, 3.0], digits=1) == "2.0 ± 1.0"
    assert with_sd([4.0], digits=1) == "4.0"


def test_a_pivot_leaves_open_what_is_not_there():
    text = pivot("", [("a", "x", "1"), ("b", "y", "2"), ("a", "y", "3")])
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [cells[0], *cells[2:]] == [["", "x", "y"], ["a", "1", "3"], ["b", "", "2"]]
