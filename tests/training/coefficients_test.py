import json

import numpy as np
import pytest

from optnet_jax.training import coefficients


def write(workdir, rows):
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (workdir / "coefficients.jsonl").write_text(text)


ROWS = [{"step": n, "epoch": n / 10, "omega": [n, 0.1]} for n in (1, 2, 3)]


def test_lines_become_arrays_of_the_type_of_parameters(tmp_path):
    assert coefficients.read(tmp_path) == {}
    write(tmp_path, ROWS)
    found = coefficients.read(tmp_path)
    assert found["step"].tolist() == [1, 2, 3]
    assert found["epoch"].tolist() == [0.1, 0.2, 0.3]
    expected = np.array([[1, 0.1], [2, 0.1], [3, 0.1]], np.float32)
    np.testing.assert_array_equal(found["omega"], expected)
    assert found["omega"].dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [{"omega": 3}, {"omega": "a"}, {"epoch": [1]}, {"new": 1}],
)
def test_a_row_of_another_form_than_the_last_is_left_out(tmp_path, change):
    write(tmp_path, [{**ROWS[0], **change}, *ROWS[1:]])
    assert coefficients.read(tmp_path)["step"].tolist() == [2, 3]


def test_the_archive_is_what_the_lines_say(tmp_path):
    archive = tmp_path / "coefficients.npz"
    archive.write_bytes(b"of an earlier start")
    write(tmp_path, ROWS)
    coefficients.write_arrays(tmp_path)
    with np.load(archive) as file:
        for name, values in coefficients.read(tmp_path).items():
            np.testing.assert_array_equal(file[name], values)
    write(tmp_path, [])
    coefficients.write_arrays(tmp_path)
    assert not archive.exists()
