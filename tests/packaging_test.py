"""What a wheel holds, and what is said about the package beside it."""

import configparser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import optnet_jax
from optnet_jax import configuration
from optnet_jax.errors import InputError

ENDINGS = ("safetensors", "json")
ROOT = Path(optnet_jax.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, which the build does not touch."""
    here = tmp_path_factory.mktemp("wheel")
    files = [ROOT / name for name in ("setup.py", "pyproject.toml", "README.md")]
    files += [*ROOT.glob("optnet_jax/**/*.*"), *ROOT.glob("configs/*.py")]
    for file in files:
        if "__pycache__" in file.parts or not file.is_file():
            continue
        copy = here / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "-w", "out", "."]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    if "No module named" in done.stderr:
        pytest.skip("pip and setuptools are not in this environment")
    assert done.returncode == 0, done.stderr
    (file,) = (here / "out").iterdir()
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_holds_every_module_config_and_file_of_data(wheel):
    names = set(wheel.namelist())
    wanted = {str(f.relative_to(ROOT)) for f in ROOT.glob("optnet_jax/**/*.py")}
    wanted |= {f"optnet_jax/{f.relative_to(ROOT)}" for f in ROOT.glob("configs/*.py")}
    wanted |= {f"optnet_jax/inference/released/digits_agd.{e}" for e in ENDINGS}
    wanted |= {"optnet_jax/py.typed", "optnet_jax/studies/report/page.html.jinja"}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/"))]


def test_the_console_script_is_the_program(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(name).decode())
    assert dict(scripts["console_scripts"]) == {"optnet-jax": "optnet_jax.main:console"}


def test_one_version_everywhere(wheel):
    assert f"-{optnet_jax.__version__}-" in Path(wheel.filename).name
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {optnet_jax.__version__}\n" in citation


def test_the_constraints_name_every_requirement():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    setup = (ROOT / "setup.py").read_text("utf-8")
    block = setup[setup.index("install_requires=[") : setup.index("extras_require")]
    wanted = re.findall(r'"([a-z][a-z_-]+)(?=[><=;"])', block)
    assert {"jax", "flax", "optax", "tensorboard"} <= set(wanted)
    # What takes TensorFlow's place where tensorflow-cpu has no wheel is not tested.
    missing = {name.replace("_", "-") for name in wanted} - pinned - {"tensorflow"}
    assert not missing


@pytest.mark.parametrize("name", ["digits_agd", "digits_agd.py", "configs/digits_agd"])
def test_a_config_is_found_by_its_name_in_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert configuration.load(f"{name}:seed=3").name == "digits_agd-seed=3"


def test_the_lists_of_what_there_is(capsys):
    from optnet_jax.configs import __main__ as configs

    from optnet_jax.data import SPECS
    from optnet_jax.data import __main__ as data
    from optnet_jax.networks import NETWORKS
    from optnet_jax.networks import __main__ as networks_list

    configs.main([])
    named = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {f"{name}.py" for name in named} == set(configuration.packaged_configs())
    networks_list.main([])
    listed = capsys.readouterr().out
    assert {name in listed for name in NETWORKS} == {True}
    assert "digits_agd       optnet_digits, top-1 error" in listed
    data.main([])
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == [
        *SPECS,
        "optnet_folder",
    ]
    assert "8 x 8 x 1       held in memory, in the package" in listed
    assert "224 x 224 x 3   streamed from disk, archives that you fetch" in listed
    for lists in (configs, data, networks_list):
        with pytest.raises(InputError, match="unrecognized arguments: --nonsense"):
            lists.main(["--nonsense"])
