import textwrap
from pathlib import Path

import pytest

from optnet_jax import configuration
from optnet_jax.errors import InputError


def test_a_file_of_the_current_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration.find_file("configs/digits_agd.py").is_absolute()
    (tmp_path / "configs").mkdir()
    mine = tmp_path / "configs" / "digits_agd.py"
    mine.write_text("def get_config():\n    return {'mine': True}\n")
    assert configuration.find_file("configs/digits_agd.py").resolve() == mine
    assert configuration.load("configs/digits_agd.py").to_dict() == {"mine": True}


def test_the_ending_may_be_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration.find_file("digits_agd").is_absolute()
    (tmp_path / "digits_agd.py").touch()
    assert configuration.find_file("digits_agd") == Path("digits_agd.py")


@pytest.mark.parametrize("folder", ["/old/disk/configs", "/", "old/configs", ".."])
def test_a_path_elsewhere_is_not_taken_for_the_package(folder):
    with pytest.raises(InputError, match="there is no config file"):
        configuration.find_file(f"{folder}/digits_agd.py")


def test_a_placeholder_without_a_value_is_a_field_that_is_not_set(tmp_path):
    file = write(
        tmp_path,
        """
        from ml_collections import ConfigDict
        from ml_collections.config_dict import FieldReference, required_placeholder

        def get_config():
            rate = FieldReference(0.1)
            inner = {"seed": required_placeholder(int), "rate": 10 * rate}
            return ConfigDict({"inner": inner, "rate": rate})
        """,
    )
    loaded = configuration.load(str(file))
    assert loaded.inner.seed is None
    loaded.rate = 0.5
    assert loaded.inner.rate == 5.0


def test_arguments_reach_the_config():
    loaded = configuration.load("configs/digits_agd.py:seed=3")
    assert loaded.seed == 3
    assert loaded.name == "digits_agd-seed=3"


def test_a_missing_file_is_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean configs/digits_agd.py"):
        configuration.find_file("configs/digit_agd.py")
    with pytest.raises(InputError, match="there are configs/cifar_agd.py, "):
        configuration.find_file("elsewhere/zzz.py")


def test_a_file_without_get_config_is_refused(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("")
    with pytest.raises(InputError, match=r"empty.py defines no get_config\(\)"):
        configuration.load(str(file))


def write(folder, text):
    file = folder / "mine.py"
    file.write_text(textwrap.dedent(text), "utf-8")
    return file


def test_a_file_may_define_a_dataclass(tmp_path):
    file = write(
        tmp_path,
        """
        from __future__ import annotations
        import dataclasses

        @dataclasses.dataclass
        class Rates:
            first: float = 0.5

        def get_config():
            return {"rate": Rates().first}
        """,
    )
    assert configuration.load(str(file)).to_dict() == {"rate": 0.5}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\ny = 1 / 0\n", r"mine.py, line 2: ZeroDivisionError: division by"),
        ("def get_config():\n\n  return x\n", r"mine.py, line 3: NameError: name 'x'"),
        ("x = (\n", r"mine.py, line 1: SyntaxError: "),
        ("import nowhere_at_all\n", r"mine.py, line 1: ModuleNotFoundError: "),
        ("def get_config(a):\n  return 1\n", r"mine.py: TypeError: .*missing 1"),
        ("def get_config():\n  return 3\n", r"mine.py returned 3: return an ml_coll"),
    ],
)
def test_an_error_inside_a_file_names_its_line(tmp_path, text, match):
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=match) as caught:
        configuration.load(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "", "\udcff"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(InputError, match="there is no config file"):
        configuration.load(name)
