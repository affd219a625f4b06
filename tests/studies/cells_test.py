import dataclasses
import json

import jax
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HeavyBall, heavy_ball
from optnet_jax.runs import program
from optnet_jax.studies import cells
from optnet_jax.studies.images import OnImages


@dataclasses.dataclass(frozen=True)
class Square:
    number: int
    work: float = 1.0

    @property
    def name(self):
        return f"square{self.number}"


def work_out(cell):
    return {"value": cell.number**2}


def complete(folder, numbers, work=work_out, config=None, begin=None):
    squares = [Square(n) for n in numbers]
    files = cells.Files(squares, folder, begin or (lambda: work), config or {})
    return cells.complete(files, lambda row: f"is {row['value']}", 1)


def file_of(folder, number):
    (file,) = folder.glob(f"square{number}-*.json")
    return file


def test_results_come_in_the_order_of_the_cells(tmp_path, capsys):
    found = complete(tmp_path / "cells", [3, 1, 2])
    assert [result["value"] for result in found] == [9, 1, 4]
    assert json.loads(file_of(tmp_path / "cells", 3).read_text("utf-8"))["value"] == 9
    assert "[1/3] square3: is 9; 0 s" in capsys.readouterr().out


def test_what_cells_share_is_made_only_where_one_is_missing(tmp_path):
    complete(tmp_path, [1])
    found = complete(tmp_path, [1], begin=lambda: 1 / 0)
    assert found[0]["value"] == 1


def test_a_cell_that_fails_leaves_the_others(tmp_path, capsys):
    def failing(cell):
        if cell.number == 2:
            raise InputError("it diverged")
        return work_out(cell)

    with pytest.raises(InputError, match="^1 of 3 cells failed, square2: mend"):
        complete(tmp_path, [1, 2, 3], failing)
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert "[2/3] square2: failed: it diverged, about" in capsys.readouterr().out
    assert len(complete(tmp_path, [1, 2, 3])) == 3


def test_launchers_try_a_cell_again_that_failed_by_no_mistake(tmp_path):
    def failing(cell):
        raise (cells.Unfinished if cell.number == 2 else InputError)("no result")

    with pytest.raises(SystemExit, match="error: 2 of 2 cells failed"):
        complete(tmp_path, [1, 2], failing)


def test_the_time_that_is_left_is_told_by_what_was_measured(tmp_path, capsys):
    """A run that fails at once is no work that was done."""
    rows = {3: {"wall_seconds": 60.0, "value": 9}, 4: {"wall_seconds": 60.0}}

    class Made(cells.Store):
        def read(self, cell):
            return None

        def begin(self):
            return self.measure

        def measure(self, cell):
            if cell.number not in rows:
                raise InputError("no room")
            return rows[cell.number]

    store = Made({Square(n): tmp_path / str(n) for n in range(1, 5)}, ())
    with pytest.raises(InputError, match="needs no other config is tried again by the"):
        cells.complete(store, lambda row: "is", 1)
    assert capsys.readouterr().out.splitlines() == [
        "[1/4] square1: failed: no room",
        "[2/4] square2: failed: no room",
        "[3/4] square3: is; 60 s, about 1:00 left",
        "[4/4] square4: is; 60 s, about 0:00 left",
    ]


@pytest.mark.parametrize(
    ("signal", "status"),
    [(KeyboardInterrupt(), 130), (program.Interrupted(15), 143)],
)
def test_a_request_to_stop_keeps_what_is_done(tmp_path, capsys, signal, status):
    def interrupted(cell):
        if cell.number == 2:
            raise signal
        return work_out(cell)

    with pytest.raises(SystemExit) as caught:
        complete(tmp_path, [1, 2, 3], interrupted)
    assert caught.value.code == status
    assert file_of(tmp_path, 1).exists()
    assert "the same command resumes" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b'{"value":', b"", b"\0" * 9, b"[]", b"\xff"])
def test_a_damaged_file_is_named(tmp_path, content):
    complete(tmp_path, [1])
    file_of(tmp_path, 1).write_bytes(content)
    with pytest.raises(InputError, match=r"square1-\w+\.json is damaged: delete it"):
        complete(tmp_path, [1])


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    complete(tmp_path, [1])
    file = file_of(tmp_path, 1)
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match="is not a regular file: move it away"):
        complete(tmp_path, [1])


def test_what_is_no_number_is_none_at_once_and_when_it_is_read(tmp_path):
    def diverged(cell):
        return {**work_out(cell), "value": [float("nan"), -float("inf"), 1.0]}

    for _ in range(2):
        assert complete(tmp_path, [1], diverged)[0]["value"] == [None, None, 1.0]


def test_the_files_of_earlier_versions_are_not_read(tmp_path, capsys):
    """They were named by places in lists: which cell they are of is not known."""
    old = tmp_path / "square1.json"
    old.write_text(json.dumps({"value": 7}), "utf-8")
    assert complete(tmp_path, [1])[0]["value"] == 1
    said = f"not used, of no cell of this study: 1 of {tmp_path}, such as square1.json"
    assert said in capsys.readouterr().err
    assert old.exists()


@dataclasses.dataclass(frozen=True)
class Method:
    """A cell that is called by its place in a list, as an old study might do."""

    recurrence: HeavyBall
    name: str = "method0"
    work: float = 1.0


def test_a_cell_is_its_definition_and_not_its_place(tmp_path):
    """Reordered, renamed or given other coefficients, nothing reads another's file."""
    done = []

    def run(*recurrences):
        def work(cell):
            done.append(cell.recurrence.beta1)
            return {"value": cell.recurrence.beta1}

        methods = [Method(recurrence) for recurrence in recurrences]
        files = cells.Files(methods, tmp_path, lambda: work, {})
        found = cells.complete(files, str, 1)
        return [result["value"] for result in found]

    assert run(heavy_ball(0.3), heavy_ball(0.5)) == [0.3, 0.5]
    assert run(heavy_ball(0.5), heavy_ball(0.3)) == [0.5, 0.3]
    assert run(heavy_ball(0.4), heavy_ball(0.3)) == [0.4, 0.3]
    assert done == [0.3, 0.5, 0.4]


def test_a_row_has_the_plain_fields_of_its_cell(tmp_path):
    (row,) = complete(tmp_path, [3])
    assert row.items() >= {"number": 3, "work": 1.0, "value": 9}.items()
    assert {"wall_seconds", "finished"} < set(row)


def test_another_config_is_another_cell(tmp_path):
    done = []

    def noted(cell):
        done.append(cell.number)
        return work_out(cell)

    for steps in (10, 20, 10):
        complete(tmp_path, [1], noted, {"steps": steps})
    assert done == [1, 1]


def test_a_cell_that_was_measured_with_other_settings_of_jax_is_refused(tmp_path):
    complete(tmp_path, [1])
    with (
        jax.default_prng_impl("rbg"),
        pytest.raises(InputError, match="prng_impl was threefry2x32, now rbg"),
    ):
        complete(tmp_path, [1, 2])


def test_cells_that_were_measured_on_other_images_are_refused(tmp_path):
    """As soon as those of now are loaded; what says nothing of its images goes on."""

    def on(fingerprint, measure=work_out):
        return lambda: OnImages(measure, fingerprint)

    complete(tmp_path, [1])
    complete(tmp_path, [1, 2], begin=on("old"))
    complete(tmp_path, [1, 2, 3], begin=on("old"))
    new = on("new", lambda cell: pytest.fail("a cell is measured"))
    fault = r"square2-.* was measured on other images \(their digest was old, now new"
    with pytest.raises(InputError, match=fault):
        complete(tmp_path, [1, 2, 3, 4], begin=new)
    found = complete(tmp_path, [1, 2, 3], begin=new)
    assert [row["value"] for row in found] == [1, 4, 9]
    assert all("fingerprint" not in row for row in found)


def test_a_file_that_was_renamed_is_not_believed(tmp_path):
    complete(tmp_path, [1])
    complete(tmp_path, [2])
    file_of(tmp_path, 1).replace(file_of(tmp_path, 2))
    with pytest.raises(InputError, match="holds another cell than its name says"):
        complete(tmp_path, [2])


def test_what_defines_a_cell_is_the_same_in_every_process():
    """No address and no order of a dict gets into it."""
    recurrence = HeavyBall(1, np.array([0.5, 1.0]), jax.nn.relu)
    described = cells.described({"b": (1, None), "a": recurrence})
    assert described == {
        "b": [1, None],
        "a": {
            "kind": "HeavyBall",
            "beta1": 1.0,
            "beta2": [0.5, 1.0],
            "post_activation": "jax._src.nn.functions.relu",
            "scale": None,
        },
    }
    assert cells.file_name("x", {"a": 1, "b": 2}) == cells.file_name(
        "x", {"b": 2, "a": 1}
    )
    with pytest.raises(InputError, match="make it a frozen dataclass"):
        cells.described(object())
