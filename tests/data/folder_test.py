import os
import tempfile
from pathlib import Path

import pytest

from optnet_jax.data import folder
from optnet_jax.errors import InputError


def fill(root, **counts):
    """Make folders of files with some bytes, ``train__cat=3`` in train/cat."""
    for name, count in counts.items():
        inside = root.joinpath(*name.split("__"))
        inside.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (inside / f"{number}.png").write_bytes(b"?" * number)
    return root


def paths(pictures):
    return {picture.path for picture in pictures}


def test_a_folder_with_train_and_test_is_split_as_it_is(tmp_path):
    fill(tmp_path, train__b=3, train__a=2, test__b=1)
    found = folder.scan(tmp_path)
    assert found.classes == ("a", "b")
    assert [(p.path, p.label) for p in found.test] == [("test/b/0.png", 1)]
    assert {p.path: p.label for p in found.train} == {
        **{f"train/a/{i}.png": 0 for i in range(2)},
        **{f"train/b/{i}.png": 1 for i in range(3)},
    }
    assert found.note == "tested on test"


@pytest.mark.parametrize("under", ["", "train__"])
def test_without_a_test_folder_a_fifth_of_each_class_is_one(under, tmp_path):
    fill(tmp_path, **{f"{under}few": 4, f"{under}many": 20})
    found = folder.scan(tmp_path)
    assert [p.label for p in found.test] == [0] + [1] * 4
    assert len(found.train) == 19
    assert not paths(found.train) & paths(found.test)
    assert "a fifth of each class" in found.note
    # Another picture moves at most one of the others across.
    fill(tmp_path, **{f"{under}many": 21})
    assert len(paths(found.test) - paths(folder.scan(tmp_path).test)) <= 1


def test_what_is_no_picture_is_left_out_and_said(tmp_path):
    fill(tmp_path, a=3, b=3, b__deeper=2)
    for name in (".DS_Store", "notes.txt", "UPPER.JPG"):
        (tmp_path / "a" / name).write_bytes(b"")
    (tmp_path / ".hidden").mkdir()
    os.mkfifo(tmp_path / "b" / "pipe.png")
    found = folder.scan(tmp_path)
    assert len(found.train) + len(found.test) == 7
    assert found.note.endswith("left out: 3, such as a/notes.txt")


def test_all_of_a_folder_is_tested_on_where_train_is_a_link_to_another(tmp_path):
    fill(tmp_path / "run", train__a=6, train__b=6)
    held = fill(tmp_path / "held", test__a=2, test__b=3)
    (held / "train").symlink_to(tmp_path / "run" / "train")
    found = folder.scan(held)
    assert (len(found.train), len(found.test), found.note) == (12, 5, "tested on test")


def test_a_second_folder_to_test_on_is_left_out_and_said(tmp_path):
    fill(tmp_path, train__a=2, train__b=2, test__a=1, val__a=1)
    found = folder.scan(tmp_path)
    assert paths(found.test) == {"test/a/0.png"}
    assert found.note == "tested on test; left out: 1, such as val"


@pytest.mark.parametrize(
    ("loose", "said"),
    [
        ({"train": 2}, "2, such as train/0.png"),
        ({"test": 1, "val": 1}, "2, such as val"),
        ({".": 3}, "3, such as 0.png"),
        ({".": 1, "train": 1, "test": 1, "test__a__deep": 1}, "4, such as 0.png"),
    ],
)
def test_pictures_of_no_class_are_left_out_and_said(loose, said, tmp_path):
    fill(tmp_path, train__a=2, train__b=2, test__a=1, **loose)
    # What is no picture belongs to no class.
    (tmp_path / "train" / "README.txt").write_bytes(b"")
    found = folder.scan(tmp_path)
    assert len(found.train) + len(found.test) == 5
    assert found.note == f"tested on test; left out: {said}"


def test_pictures_beside_classes_without_a_train_folder_are_said(tmp_path):
    fill(tmp_path, a=3, b=3).joinpath("stray.JPG").write_bytes(b"")
    assert folder.scan(tmp_path).note.endswith("; left out: 1, such as stray.JPG")


def config_name(root, size=8):
    return folder.spec_of(str(root), size).builder_config["name"]


def test_a_folder_that_has_changed_is_another_set(tmp_path):
    fill(tmp_path, a=3, b=3)
    names = {config_name(tmp_path), config_name(tmp_path, size=16)}
    file = tmp_path / "a" / "1.png"
    os.utime(file, ns=(1, 1))
    names.add(config_name(tmp_path))
    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))
    names.add(config_name(tmp_path))
    file.rename(tmp_path / "b" / "moved.png")
    names.add(config_name(tmp_path))
    assert len(names) == 5
    moved = tmp_path.rename(tmp_path.with_name("elsewhere"))
    assert config_name(moved) in names


def test_a_set_that_memory_does_not_hold_is_streamed(tmp_path, monkeypatch):
    fill(tmp_path, a=3, b=3)
    monkeypatch.setattr(folder, "MOST_IN_MEMORY", 6 * 3 * 16**2)
    in_memory, streamed = (folder.spec_of(str(tmp_path), size) for size in (16, 17))
    assert (in_memory.streamed, in_memory.pad, in_memory.num_classes) == (False, 2, 2)
    assert (streamed.streamed, streamed.pad) == (True, 0)


WRONG = {
    "has no class folders": {},
    "has one class folder only, a": {"a": 3},
    "train has one class folder only, a": {"train__a": 3, "a": 3, "b": 3},
    "b has no pictures": {"a": 3, "b": 0},
    "b has no pictures, but b/deep: put": {"a": 3, "b__deep": 3},
    "Testing has no pictures, .* call it train or test if its folders are": {
        **{"Training__a": 3, "Training__b": 3, "Testing__a": 3, "Testing__b": 3}
    },
    "train/b has no pictures, but train/b/deep: put some into it, or delete it$": {
        "train__a": 3,
        "train__b__deep": 3,
    },
    "has a folder 'Test' beside train: call it test": {
        "train__a": 3,
        "train__b": 3,
        "Test__a": 3,
    },
    "test/a has no pictures": {
        "train__a": 3,
        "train__b": 3,
        "test__a": 0,
        "test__b": 1,
    },
    "test has no class folders": {"train__a": 3, "train__b": 3, "test": 3},
    "train has no class folders: .*; no class can be called train$": {
        "bus": 3,
        "car": 3,
        "train": 3,
    },
    "has the class 'c', which": {
        "train__a": 3,
        "train__b": 1,
        "test__a": 1,
        "test__c": 1,
    },
    "of the class b one picture only": {"a": 2, "b": 1},
    r"has a folder val and none called train: .* \(for --mode=eval, make it a link": {
        "val__a": 3,
        "val__b": 3,
    },
    "no class can be called test$": {"quiz": 3, "test": 3},
    "has a class folder called 'b ': rename it": {"a": 3, "b ": 3},
    r"called 'b\\nc': rename it": {"a": 3, "b\nc": 3},
    "two class folders that look alike, 'A' and 'a'": {"a": 3, "A": 3},
    r"that look alike, 'e\\u0301' and '\\xe9'": {"é": 3, "e\u0301": 3},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_data_set_is_said_in_one_line(message, tmp_path):
    fill(tmp_path, **WRONG[message])
    with pytest.raises(InputError, match=message) as caught:
        folder.spec_of(str(tmp_path), 8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("link", "target", "cause"),
    [
        ("c", "c", "Too many levels of symbolic links"),
        ("c", "gone", "No such file or directory"),
        ("a/l.png", "l.png", "Too many levels of symbolic links"),
        ("a/l.png", "gone", "No such file or directory"),
    ],
)
def test_a_link_to_nothing_is_named(tmp_path, link, target, cause):
    fill(tmp_path, a=2, b=2).joinpath(link).symlink_to(target)
    with pytest.raises(InputError, match=rf"{link} cannot be read \({cause}\)"):
        folder.scan(tmp_path)


def test_the_folder_and_the_size_must_be_said(tmp_path):
    with pytest.raises(InputError, match=r"--config.data.folder=DIR"):
        folder.spec_of("", 8)
    with pytest.raises(InputError, match=r"--config.data.image_size=64"):
        folder.spec_of(str(fill(tmp_path, a=3, b=3)), 0)
    with pytest.raises(InputError, match=r"gone cannot be read \(No such file"):
        folder.spec_of(str(tmp_path / "gone"), 8)


def test_a_class_that_may_not_be_read_is_named(as_nobody):
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        fill(Path(root), a=2, b=2)
        os.chmod(f"{root}/b", 0)
        with (
            as_nobody(),
            pytest.raises(InputError, match=r"b cannot be read \(Permission denied\)"),
        ):
            folder.spec_of(root, 8)
        os.chmod(f"{root}/b", 0o700)
