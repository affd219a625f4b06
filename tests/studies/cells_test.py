import dataclasses
import json

import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies import cells


@dataclasses.dataclass(frozen=True)
class Square:
    number: int
    work: float = 1.0

    @property
    def name(self):
        return f"square{self.number}"


def work_out(cell):
    return {"value": cell.number**2, "wall_seconds": 0.0}


def complete(folder, numbers, work=work_out):
    return cells.complete(
        [Square(n) for n in numbers], folder, work, lambda r: f"is {r['value']}", 1
    )


def test_results_come_in_the_order_of_the_cells(tmp_path, capsys):
    found = complete(tmp_path / "cells", [3, 1, 2])
    assert [result["value"] for result in found] == [9, 1, 4]
    assert json.loads((tmp_path / "cells/square3.json").read_text())["value"] == 9
    assert "[1/3] is 9; 0 s" in capsys.readouterr().out


def test_what_is_there_is_not_worked_out_again(tmp_path, capsys):
    complete(tmp_path, [1, 2])
    done = []

    def noted(cell):
        done.append(cell.number)
        return work_out(cell)

    complete(tmp_path, [1, 2, 5], noted)
    assert done == [5]
    assert "going on: 2 of 3" in capsys.readouterr().out


def test_a_cell_that_fails_leaves_the_finished_ones(tmp_path):
    def failing(cell):
        if cell.number == 2:
            raise InputError("it diverged")
        return work_out(cell)

    with pytest.raises(InputError, match="it diverged"):
        complete(tmp_path, [1, 2], failing)
    assert [file.name for file in tmp_path.glob("*.json")] == ["square1.json"]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "square1.json").write_text('{"value":')
    with pytest.raises(InputError, match=r"square1\.json is damaged: delete it"):
        complete(tmp_path, [1])
