import json
import subprocess
import sys

import ml_collections
import pytest

from optnet_jax.errors import InputError
from optnet_jax.training.workdir import Workdir, write_json


def make_config(**changes):
    return ml_collections.ConfigDict(
        {"seed": 0, "drop_at": (0.5, 0.75), "log": {"every_steps": 0}, **changes}
    )


def finish(path, config):
    with Workdir(path, config) as workdir:
        workdir.write_config()
        workdir.write_result({"final": 1})


def test_a_second_owner_is_refused_and_told_who_has_it(tmp_path):
    code = (
        "import sys, ml_collections; from optnet_jax.training.workdir import Workdir\n"
        f"with Workdir({str(tmp_path)!r}, ml_collections.ConfigDict()):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout.readline() == "locked\n"
        match = rf"is in use by process {owner.pid} on .*another --workdir"
        with pytest.raises(InputError, match=match), Workdir(tmp_path, make_config()):
            pass
    finally:
        owner.kill()
        owner.communicate()
    # A killed owner leaves no lock behind.
    with Workdir(tmp_path, make_config()) as workdir:
        assert workdir.result() is None


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    match = r"workdir .*file/run is not writable \(Not a directory\)"
    with (
        pytest.raises(InputError, match=match),
        Workdir(tmp_path / "file" / "run", make_config()),
    ):
        pass


def test_a_directory_without_permission_is_named(tmp_path, monkeypatch):
    def denied(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.write_text", denied)
    with (
        pytest.raises(InputError, match=r"not writable \(Permission denied\)"),
        Workdir(tmp_path, make_config()),
    ):
        pass


def test_config_and_result_are_found_again(tmp_path):
    finish(tmp_path, make_config())
    with Workdir(tmp_path, make_config()) as workdir:
        assert workdir.result() == {"final": 1}
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "seed": 0,
        "drop_at": [0.5, 0.75],
        "log": {"every_steps": 0},
    }


def test_another_config_is_refused_unless_only_free_fields_differ(tmp_path):
    finish(tmp_path, make_config())
    with Workdir(tmp_path, make_config(log={"every_steps": 5})):
        pass
    changed = make_config(seed=3, drop_at=(0.5,))
    match = r"drop_at was \[0.5, 0.75\], now \[0.5\]; seed was 0, now 3"
    with pytest.raises(InputError, match=match), Workdir(tmp_path, changed):
        pass


def test_a_directory_without_results_takes_any_config(tmp_path):
    with Workdir(tmp_path, make_config()) as workdir:
        workdir.write_config()
    with Workdir(tmp_path, make_config(seed=1)) as workdir:
        workdir.write_config()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_json_is_replaced_whole(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    circle = {}
    circle["self"] = circle
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, circle)
    assert json.loads(file.read_text()) == {"a": 1}
