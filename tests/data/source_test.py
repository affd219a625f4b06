import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from optnet_jax import data
from optnet_jax.data import archives, arrays, features, source
from optnet_jax.errors import InputError
from optnet_jax.runs import files, program


def manual_dir(data_dir):
    return data_dir / "downloads" / "manual"


def sorted_rows(images, labels):
    rows = np.concatenate([labels[:, None], images.reshape(len(labels), -1)], axis=1)
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_real_builders_read_the_genuine_layout(
    name, tmp_path, cifar_archive, no_network
):
    _, records = cifar_archive(name, manual_dir(tmp_path))
    builder = source.prepared_builder(data.get_spec(name), str(tmp_path))
    for split, table in records.items():
        found = arrays.read_split(builder, split)
        pixels = table[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels = table[:, -3073].astype(np.int32)
        assert found.images.dtype == np.uint8
        np.testing.assert_array_equal(sorted_rows(*found), sorted_rows(pixels, labels))


def test_a_prepared_set_needs_neither_archive_nor_network(
    tmp_path, cifar_archive, no_network
):
    archive, _ = cifar_archive("cifar10", manual_dir(tmp_path))
    source.prepared_builder(data.get_spec("cifar10"), str(tmp_path))
    archive.unlink()
    config = {"dataset": "cifar10", "data_dir": str(tmp_path), "batch_size": 4}
    found = data.load(config, seed=0)
    assert (found.num_train, found.num_eval, found.steps_per_epoch) == (20, 7, 5)
    assert found.split == "cifar10 3.0.2: train 20, test 7 (the published split)"
    assert sum(batch["mask"].sum() for batch in found.eval_batches()) == 7


def test_no_dataset_and_no_network(tmp_path, no_network, monkeypatch):
    # A download must not even be tried: it takes minutes to give up.
    monkeypatch.setattr(source, "_download_and_prepare", None)
    with pytest.raises(InputError) as caught:
        data.load({"dataset": "cifar10", "data_dir": str(tmp_path)}, seed=0)
    start, end = str(caught.value).split("(www.cs.toronto.edu: ")
    assert start == f"cifar10 is not in {tmp_path} and cannot be downloaded "
    assert end.endswith(
        f"): put cifar-10-binary.tar.gz (170,052,171 bytes) into {manual_dir(tmp_path)}"
    )


def test_who_lacks_fashion_mnist_is_told_of_the_package(tmp_path, no_network):
    with pytest.raises(InputError) as caught:
        data.load({"dataset": "fashion_mnist", "data_dir": str(tmp_path)}, seed=0)
    assert str(caught.value).endswith(
        "train-labels-idx1-ubyte.gz (29,515 bytes), which Debian's package "
        f"dataset-fashion-mnist has, into {manual_dir(tmp_path)}"
    )


def test_a_name_server_that_never_answers(monkeypatch):
    answer = threading.Event()

    def getaddrinfo(*args, **kwargs):
        answer.wait()
        # Else the thread that is left behind fails in whichever test comes next.
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(archives, "PROBE_SECONDS", 0.01)
    try:
        reason = archives.unreachable("https://example.org/file")
    finally:
        answer.set()
    assert reason == "(example.org does not answer)"


def test_imagenet_names_both_archives(tmp_path):
    manual_dir(tmp_path).mkdir(parents=True)
    (manual_dir(tmp_path) / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(InputError, match=r"put ILSVRC2012_img_train.tar \(147") as one:
        data.load({"dataset": "imagenet2012", "data_dir": str(tmp_path)}, seed=0)
    assert "val.tar" not in str(one.value)


def test_download_with_a_wrong_checksum(
    tmp_path, cifar_archive, monkeypatch, no_network
):
    archive, _ = cifar_archive("cifar10", manual_dir(tmp_path))
    # What TFDS finds when it looks by itself, as it does at what it has downloaded.
    monkeypatch.setattr(source.archives, "check", lambda *_: None)
    content = bytearray(archive.read_bytes())
    right = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(InputError) as caught:
        source.prepared_builder(data.get_spec("cifar10"), str(tmp_path))
    message = str(caught.value)
    assert message.startswith("cifar10 was downloaded damaged: Artifact https://www.cs")
    assert right in message
    assert hashlib.sha256(content).hexdigest() in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"module": "optnet_nowhere"},
            "^optnet_nowhere, the module of nobodys in ",
        ),
        ({}, "^TFDS has no builder called nobodys: the module of its Spec must"),
    ],
)
def test_a_builder_that_is_not_found_is_asked_for(tmp_path, fields, message):
    spec = data.Spec("nobodys", 3, (4, 4, 3), (0.5,) * 3, (0.5,) * 3, **fields)
    with pytest.raises(InputError, match=message) as caught:
        source.find_builder(spec, str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("pad = ", r"SyntaxError: invalid syntax \(optnet_broken.py, line 1\)"),
        ("pad = four", "NameError: name 'four' is not defined"),
        ("raise ValueError('one\\ntwo')", "ValueError: one two"),
    ],
)
def test_a_module_that_is_broken_is_one_line(tmp_path, monkeypatch, content, cause):
    (tmp_path / "optnet_broken.py").write_text(content, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = dataclasses.replace(data.get_spec("mnist"), module="optnet_broken")
    with pytest.raises(InputError, match=rf"imported \({cause}\): mend it$"):
        source.find_builder(spec, str(tmp_path))


@pytest.fixture
def several(monkeypatch):
    """The Spec of a builder with two configs, whose class may be broken."""

    class Several(tfds.core.GeneratorBasedBuilder):
        name = "several"
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in "ab"]

        def _info(self):
            if self.builder_config.name == "b":
                raise KeyError("mine")
            return self.dataset_info_from_configs()

        _split_generators = _generate_examples = None

    fields = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    yield lambda config: data.Spec(
        "several", 3, (4, 4, 3), builder_config=config, **fields
    )
    for registry in vars(registered).values():
        if isinstance(registry, dict):
            registry.pop("several", None)


def test_a_config_of_a_builder_is_named(several, tmp_path):
    found = source.find_builder(several({"name": "a"}), str(tmp_path))
    assert found.builder_config.name == "a"
    with pytest.raises(InputError, match=r"its builder has a, b; give one by its name"):
        source.find_builder(several({"name": "c"}), str(tmp_path))


def test_a_builder_that_cannot_be_made_is_no_damaged_set(several, tmp_path):
    with pytest.raises(InputError, match=r"of several .*'mine'.*: mend its class"):
        source.find_builder(several({"name": "b"}), str(tmp_path))


def test_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    config = {"dataset": "optnet_digits", "data_dir": str(tmp_path / "file" / "data")}
    with pytest.raises(InputError, match="cannot write to data_dir .*file/data: Not a"):
        data.load(config, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"manual": True, "eval_split": "validation"},
            "was prepared without its validation split; delete that directory and",
        ),
        (
            {"eval_split": "train[80%:]"},
            "has the splits test, train and no train[80%:]: delete that directory if "
            "it is in part, else its builder must have a split train[80%:], or its "
            "Spec another eval_split, whole",
        ),
    ],
)
def test_a_set_without_a_split_that_is_asked_for(prepared_digits, fields, message):
    spec = dataclasses.replace(data.get_spec("optnet_digits"), **fields)
    with pytest.raises(InputError, match=re.escape(message)):
        source.prepared_builder(spec, str(prepared_digits.data_dir_root))


def test_a_set_without_a_split_to_train_on(prepared_digits, monkeypatch):
    monkeypatch.delitem(prepared_digits.info.splits, "train")
    with pytest.raises(InputError, match="splits test and no train: delete that dire"):
        features.check(data.get_spec("optnet_digits"), prepared_digits)


def test_on_a_disk_without_locks_the_others_wait_for_process_0(tmp_path, monkeypatch):
    spec = data.get_spec("optnet_digits")
    process_index = 1
    waits = []

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    def sleep(seconds):
        # What process 0 does meanwhile.
        nonlocal process_index
        waits.append(seconds)
        process_index = 0
        source.prepared_builder(spec, str(tmp_path))
        process_index = 1

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(source.time, "sleep", sleep)
    monkeypatch.setattr(source.jax, "process_index", lambda: process_index)
    builder = source.prepared_builder(spec, str(tmp_path))
    assert builder.is_prepared()
    assert waits == [source.POLL_SECONDS]


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def stop(request):
    """Asks this process to stop, as a command line of this package is asked to."""

    def stopped(number, frame):
        raise program.Interrupted(number)

    before = signal.signal(request.param, stopped)
    yield lambda *_: signal.raise_signal(request.param)
    signal.signal(request.param, before)


def test_a_signal_ends_the_wait_for_another_process(
    tmp_path, monkeypatch, caplog, stop
):
    spec = data.get_spec("optnet_digits")
    waits = iter([lambda: None, stop])
    monkeypatch.setattr(source.time, "sleep", lambda seconds: next(waits)())
    with files.open_lock(tmp_path / ".optnet_digits.lock") as lock:
        assert not files.take_lock(lock)
        with pytest.raises(program.Interrupted):
            source.prepared_builder(spec, str(tmp_path))
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for process {os.getpid()} on {os.uname().nodename}, which prepares "
        f"optnet_digits in {tmp_path}"
    ]


def test_a_signal_ends_the_check_of_an_archive(
    tmp_path, cifar_archive, no_network, monkeypatch, stop
):
    archive, _ = cifar_archive("cifar10", manual_dir(tmp_path))
    monkeypatch.setattr(hashlib, "file_digest", stop)
    with pytest.raises(program.Interrupted):
        source.prepared_builder(data.get_spec("cifar10"), str(tmp_path))
    assert archive.exists()


def test_a_signal_ends_preparing_and_nothing_half_prepared_is_left(
    own_set, tmp_path, stop
):
    example = {"image": np.zeros((4, 4, 3), np.uint8), "label": 1}
    signals = iter([stop])

    def stopped_once():
        yield example
        next(signals, lambda: None)()
        yield example

    class Examples:
        def __iter__(self):
            return stopped_once()

    config = own_set(Examples())
    with pytest.raises(program.Interrupted):
        data.load(config, seed=0)
    assert os.listdir(tmp_path) == [".optnet_own.lock"]
    assert data.load(config, seed=0).num_train == 2


def test_a_lock_that_is_no_file_is_refused_untouched(tmp_path):
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (tmp_path / ".optnet_digits.lock").symlink_to(target)
    with pytest.raises(InputError, match=r"digits\.lock is not a regular file: move"):
        source.prepared_builder(data.get_spec("optnet_digits"), str(tmp_path))
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_line(own_set, tmp_path, number):
    class Full:
        def __iter__(self):
            # Where TFDS downloads and unpacks.
            (tmp_path / "downloads/optnet_own/a.tmp.1").mkdir(parents=True)
            (tmp_path / "downloads/extracted/optnet_own/incomplete.1_a").mkdir()
            raise OSError(number, os.strerror(number), "a file")

    config = own_set(Full())
    fault = rf"optnet_own cannot be prepared in .*{os.strerror(number)}.*; mend that"
    with pytest.raises(InputError, match=fault) as caught:
        data.load(config, seed=0)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [".optnet_own.lock"]


def test_what_a_kill_has_left_is_said_and_stays(own_set, tmp_path, caplog):
    # Another program may be at work there.
    left = tmp_path / "optnet_own" / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    config = own_set([{"image": None, "label": 1}])
    with pytest.raises(InputError, match="optnet_own cannot be prepared"):
        data.load(config, seed=0)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{left} was left when a program was killed")
    assert os.listdir(left.parent) == [left.name]


TWO_PROCESSES = """
import json, sys
import jax
port, index, data_dir = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(index))
from optnet_jax import data
dataset = data.load({"dataset": "optnet_digits", "data_dir": data_dir}, seed=3)
labels = next(dataset.train_batches(5))["label"].tolist()
masks = [batch["mask"].tolist() for batch in dataset.eval_batches()]
print(json.dumps({"labels": labels, "masks": masks}))
"""


def test_two_processes_prepare_once_and_share_the_batches(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, port, str(index), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    shares = [json.loads(output.splitlines()[-1]) for output in outputs]
    whole = data.load({"dataset": "optnet_digits", "data_dir": str(tmp_path)}, seed=3)
    labels = next(whole.train_batches(5))["label"].tolist()
    assert shares[0]["labels"] + shares[1]["labels"] == labels
    assert len(shares[0]["masks"]) == len(shares[1]["masks"])
    assert sum(sum(mask) for share in shares for mask in share["masks"]) == 360


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b'{"name": "optn', b"[1]", None])
def test_a_damaged_or_missing_description_of_a_set_is_one_line(own_set, content):
    config = own_set()
    data.load(config, seed=0)
    (file,) = Path(config["data_dir"]).glob("optnet_own/*/dataset_info.json")
    fault = "optnet_own in .*delete its folder"
    if content is None:
        file.unlink()
        fault = rf"^{file.parent} has no dataset_info\.json"
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        data.load(config, seed=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("locked", [".", "optnet_own", "optnet_own/1.0.0", "*.tfrec*"])
def test_a_set_that_may_not_be_read_is_neither_missing_nor_damaged(
    own_set, as_nobody, locked
):
    config = own_set()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(folder, "sets")
        config["data_dir"] = str(root)
        data.load(config, seed=0)
        paths = list(root.rglob(locked)) if "*" in locked else [root / locked]
        for path in paths:
            path.chmod(0)
        denied = rf"^{root}.* cannot be read \(Permission denied\)"
        with as_nobody(), pytest.raises(InputError, match=denied):
            data.load(config, seed=0)
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize("inside", ["optnet_own", "optnet_own/1.0.0"])
def test_the_folder_of_the_set_itself_is_recognised(own_set, inside):
    config = own_set()
    data.load(config, seed=0)
    root = Path(config["data_dir"])
    before = sorted(root.rglob("*"))
    config["data_dir"] = str(root / inside)
    with pytest.raises(InputError, match=rf"--config.data.data_dir={root}$"):
        data.load(config, seed=0)
    assert sorted(root.rglob("*")) == before
