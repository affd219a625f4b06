from pathlib import Path

import pytest

from optnet_jax.data import arrays, get_spec, prepare, source
from optnet_jax.errors import InputError


def run(capsys, *arguments):
    prepare.main(arguments)
    return capsys.readouterr()


def test_prepares_from_an_archive_of_any_name(
    tmp_path, cifar_archive, no_network, capsys
):
    archive, _ = cifar_archive("cifar10", tmp_path / "elsewhere")
    archive = archive.rename(archive.with_name("my cifar.tgz"))
    data_dir = tmp_path / "data"
    arguments = ("--dataset=cifar10", f"--archive={archive}", f"--data_dir={data_dir}")
    line = f"cifar10 3.0.2 is in {data_dir}/cifar10/3.0.2: train 20, test 7\n"
    begun = f"preparing cifar10 in {data_dir}\n"
    assert run(capsys, *arguments) == (begun + line, "")
    # The second time, there is nothing to do. The name is the one that messages advise.
    arguments = (*arguments[:2], f"--config.data.data_dir={data_dir}")
    assert run(capsys, *arguments) == (line, "")


def without_name(archive):
    """Take name and time out of a gzip header, as Debian does."""
    content = archive.read_bytes()
    end = content.index(b"\0", 10) + 1
    assert content[10 : end - 1].decode() == archive.stem
    header = content[:3] + b"\0" + bytes(4) + content[8:10]
    archive.write_bytes(header + content[end:])


@pytest.mark.parametrize("changed", [False, True], ids=["genuine", "without names"])
def test_prepares_from_a_folder_of_archives(
    tmp_path, fashion_archives, no_network, capsys, changed
):
    folder, data_dir = tmp_path / "fashion-mnist", tmp_path / "data"
    images = fashion_archives(folder)
    if changed:
        for archive in folder.glob("*.gz"):
            without_name(archive)
    arguments = (f"--archive={folder}", f"--data_dir={data_dir}")
    out, err = run(capsys, "--dataset=fashion_mnist", *arguments)
    assert not err
    assert out.endswith(": train 20, test 7\n")
    builder = source.prepared_builder(get_spec("fashion_mnist"), str(data_dir))
    for split, images_of_split in zip(("train", "test"), images.values(), strict=True):
        found = arrays.read_split(builder, split)
        want = sorted(image.tobytes() for image in images_of_split)
        assert sorted(image.tobytes() for image in found.images) == want


def test_an_archive_that_holds_something_else_is_refused(
    tmp_path, fashion_archives, no_network
):
    fashion_archives(tmp_path)
    archive = tmp_path / "t10k-images-idx3-ubyte.gz"
    without_name(archive)
    content = bytearray(archive.read_bytes())
    content[-9] ^= 1
    archive.write_bytes(content)
    arguments = (f"--archive={tmp_path}", f"--data_dir={tmp_path}")
    message = f"{archive} is not the archive of fashion_mnist: "
    refused(message, "--dataset=fashion_mnist", *arguments)


def test_an_archive_that_a_folder_lacks_is_asked_for(tmp_path, fashion_archives):
    fashion_archives(tmp_path)
    name = "t10k-labels-idx1-ubyte.gz"
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    arguments = (f"--archive={tmp_path}", f"--data_dir={tmp_path}")
    message = f"fashion_mnist needs {name} ({size} bytes), too; see --archive"
    refused(message, "--dataset=fashion_mnist", *arguments)


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_lack_archives(
    tmp_path, as_nobody
):
    (tmp_path / "locked").mkdir(mode=0)
    denied = r"cannot be read \(Permission denied\): give read permission"
    with as_nobody(), pytest.raises(InputError, match=denied):
        list(prepare._files([str(tmp_path / "locked")], ["a.gz"]))


def refused(message, *arguments):
    with pytest.raises(InputError) as caught:
        prepare.main(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: --dataset; see "),
        (("--dataset=cifar",), "no dataset is called 'cifar'; there are "),
        (
            ("--dataset=cifar10", "--archive=nowhere.tgz"),
            "there is no file nowhere.tgz; see --archive",
        ),
        (
            ("--dataset=cifar10", f"--archive={Path(__file__).parent}"),
            f"{Path(__file__).parent} is a folder: the archive itself must be",
        ),
        (
            ("--dataset=imagenet2012", f"--archive={Path(__file__).parent}"),
            f"{Path(__file__).parent} is a folder: the archive itself must be given, "
            "or be in it, packed, as ILSVRC2012_img_train.tar and ILSVRC2012_img_val",
        ),
        (
            ("--dataset=optnet_digits", f"--archive={__file__}"),
            "optnet_digits needs no archive; leave out --archive",
        ),
        (
            ("--dataset=imagenet2012", f"--archive={__file__}"),
            f"{__file__} is not an archive of imagenet2012, which are called "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
        ),
        (
            ("--dataset=cifar10", f"--archive={__file__}"),
            f"{__file__} is not the archive of cifar10: it has ",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path):
    if arguments:
        arguments = (*arguments, f"--data_dir={tmp_path}")
    refused(message, *arguments)
