import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optnet_jax.errors import InputError
from optnet_jax.runs import step_folders
from optnet_jax.training.checkpoint import Checkpoints, DamagedCheckpointError
from optnet_jax.training.origin import Origin
from optnet_jax.training.steps import TrainState, create_state

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def make_state(small, step, features=4, average=False) -> TrainState:
    module = small.SmallNet(features=features)
    key = jax.random.key(step)
    state = create_state(module, OPTIMIZER, key, (8, 8, 1), average=average)
    return state.replace(step=jnp.int32(step))


def open_at(path, **options) -> Checkpoints:
    return Checkpoints(path / "checkpoints", sharding=SHARDING, **options)


def restore_newest(checkpoints, template):
    restored = checkpoints.restore_newest(template)
    assert restored is not None
    return restored


def save_all(small, path, steps, **options):
    with open_at(path, **options) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(small, step), {"note": step})
        checkpoints.wait()


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)


def array_files(path: Path, step: int) -> list[Path]:
    return list((path / "checkpoints" / str(step) / "state").rglob("d/*"))


def test_a_state_comes_back_bit_for_bit(small, tmp_path):
    template = jax.eval_shape(lambda: make_state(small, 0))
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.restore_newest(template) is None
    save_all(small, tmp_path, [3])
    with open_at(tmp_path) as checkpoints:
        state, history = restore_newest(checkpoints, template)
        assert checkpoints.last_saved == 3
    assert_equal(state, make_state(small, 3))
    assert history == {"note": 3}


def test_the_newest_and_the_best_are_kept(small, tmp_path):
    with open_at(tmp_path, keep=2) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(make_state(small, step), {}, best_step=min(step, 2))
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4, 5]


def test_the_saved_state_may_be_donated_at_once(small, tmp_path):
    state, expected = make_state(small, 1), make_state(small, 1)
    overwrite = jax.jit(
        lambda s: jax.tree.map(lambda leaf: leaf * 0 - 1, s), donate_argnums=0
    )
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(state, {})
        overwrite(state)
    with open_at(tmp_path) as checkpoints:
        assert_equal(restore_newest(checkpoints, expected)[0], expected)


def truncate(file: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path):
    content = bytearray(file.read_bytes())
    for index in range(0, len(content), 7):
        content[index] ^= 0x10
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, "history"])
def test_a_damaged_step_is_named_and_skipped(small, tmp_path, caplog, damage):
    save_all(small, tmp_path, [1, 2])
    if damage == "history":
        file = tmp_path / "checkpoints" / "2" / "meta" / "metadata"
        text = file.read_text("utf-8").replace('"note": 2', '"note": 3')
        file.write_text(text, "utf-8")
    for file in array_files(tmp_path, 2) if damage != "history" else ():
        damage(file)
    with open_at(tmp_path) as checkpoints:
        state, _ = restore_newest(checkpoints, make_state(small, 0))
        assert_equal(state, make_state(small, 1))
        assert "checkpoint of step 2" in caplog.text
        assert "damaged" in caplog.text
        # The run comes to step 2 again and saves it.
        checkpoints.save(make_state(small, 2), {"note": "again"})
        checkpoints.wait()
        state, history = restore_newest(checkpoints, make_state(small, 0))
    assert history == {"note": "again"}
    assert_equal(state, make_state(small, 2))
    assert (tmp_path / "damaged_checkpoints" / "2").is_dir()


def test_bytes_that_restore_silently_wrong_are_found(small, tmp_path, monkeypatch):
    """Only the checksum sees an array that another state's leaf has replaced."""
    save_all(small, tmp_path, [1])
    with open_at(tmp_path) as checkpoints:
        restore = checkpoints._reader.restore
        name = "params.Conv_0.kernel"

        def flipped(folder, args):
            leaves = restore(folder, args=args)
            return {**leaves, name: leaves[name].at[0, 0, 0, 0].add(1e-7)}

        monkeypatch.setattr(checkpoints._reader, "restore", flipped)
        with pytest.raises(
            DamagedCheckpointError, match=r"params.Conv_0.kernel.*checksum"
        ):
            checkpoints.read(1)


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 B"),
        MemoryError(),
        *(OSError(n, os.strerror(n)) for n in (errno.EIO, errno.ESTALE, errno.EMFILE)),
        ValueError('ABORTED: Failed to open: "/a": Stale file handle [source=...]'),
        ValueError('UNKNOWN: Error reading "step": Input/output error [source=...]'),
    ],
    ids=str,
)
@pytest.mark.parametrize("part", ["metadata", "arrays"])
def test_what_cannot_be_read_now_is_not_called_damaged(
    small, tmp_path, monkeypatch, error, part
):
    save_all(small, tmp_path, [1, 2])

    def fail(*args, **options):
        raise error

    with open_at(tmp_path) as checkpoints:
        with monkeypatch.context() as context:
            if part == "arrays":
                context.setattr(checkpoints._reader, "restore", fail)
            else:
                context.setattr(type(checkpoints._reader.handler), "metadata", fail)
            with pytest.raises(RuntimeError, match=r"step 2 in .* be read now \(") as e:
                checkpoints.restore_newest(make_state(small, 0))
        assert "\n" not in str(e.value)
        assert checkpoints.steps() == [1, 2]
        _, history = restore_newest(checkpoints, make_state(small, 0))
    assert history == {"note": 2}
    assert not (tmp_path / "damaged_checkpoints").exists()


@pytest.mark.parametrize("locked", ["", "meta/metadata", "state", "state/d/*"])
def test_what_may_not_be_read_is_not_called_damaged(small, as_nobody, locked):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        save_all(small, Path(folder), [1])
        step = Path(folder, "checkpoints", "1")
        paths = list(step.glob(locked)) if locked else [step]
        for path in paths:
            path.chmod(0)
        denied = r"step 1 .* be read \(.*(Perm|PERM).*\): give read permission"
        with (
            open_at(Path(folder), read_only=True) as checkpoints,
            as_nobody(),
            pytest.raises(InputError, match=denied),
        ):
            checkpoints.read(1)
        for path in paths:
            path.chmod(0o755)


def test_when_every_step_is_damaged_the_run_does_not_start_over(small, tmp_path):
    save_all(small, tmp_path, [1, 2])
    for step in (1, 2):
        for file in array_files(tmp_path, step):
            truncate(file)
    with (
        open_at(tmp_path) as checkpoints,
        pytest.raises(InputError, match=r"every checkpoint.*\[2, 1\]"),
    ):
        checkpoints.restore_newest(make_state(small, 0))


def test_another_network_is_refused_with_both_shapes(small, tmp_path):
    save_all(small, tmp_path, [1])
    with open_at(tmp_path) as checkpoints, pytest.raises(InputError) as error:
        checkpoints.restore_newest(make_state(small, 0, features=6))
    assert "(4,) there and (6,) here" in str(error.value)
    assert "\n" not in str(error.value)


def save_in(small, path, room):
    """Save step 2 with a limit on the size of files."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # No program is compiled so long that the limit would meet the kept ones, too.
    shortest = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, shortest)
    jax.config.update(shortest, 1e9)
    with open_at(path) as checkpoints:
        checkpoints.restore_newest(make_state(small, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            checkpoints.save(make_state(small, 2, features=4096), {})
            checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
            jax.config.update(shortest, before)


@pytest.mark.parametrize("checked", [True, False], ids=["before", "by Orbax"])
@pytest.mark.parametrize("room", [512, 32_768], ids=["for nothing", "for meta"])
def test_a_full_disk_leaves_the_last_checkpoint_intact(
    small, tmp_path, monkeypatch, capfd, caplog, room, checked
):
    """A limit on the size of files stands in for the full disk: a write fails.

    It is found before Orbax writes; but a disk may also fill while it does.
    """
    if not checked:
        monkeypatch.setattr(step_folders, "check_room", lambda *_: None)
    save_all(small, tmp_path, [1])
    with pytest.raises(InputError, match="step 1 is intact: make room"):
        save_in(small, tmp_path, room)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    with open_at(tmp_path) as checkpoints:
        state, _ = restore_newest(checkpoints, make_state(small, 0))
    assert_equal(state, make_state(small, 1))


ORIGIN = Origin({"seed": 0, "optimizer": {"learning_rate": 0.1}}, "abc")


def test_a_checkpoint_of_another_run_is_refused(small, tmp_path):
    save_all(small, tmp_path, [1], origin=ORIGIN)
    other = Origin({"seed": 1, "optimizer": {"learning_rate": 0.2}}, "xyz")
    match = r"learning_rate was 0.1, now 0.2; seed was 0, now 1; its data was abc, now"
    with (
        open_at(tmp_path, origin=other) as checkpoints,
        pytest.raises(InputError, match=match),
    ):
        checkpoints.restore_newest(make_state(small, 0))
    with open_at(tmp_path, origin=ORIGIN) as checkpoints:
        assert restore_newest(checkpoints, make_state(small, 0))[1] == {"note": 1}


def test_another_version_of_jax_is_said(small, tmp_path, caplog):
    save_all(small, tmp_path, [1], origin=ORIGIN)
    now = dataclasses.replace(ORIGIN, jax="99.0")
    with open_at(tmp_path, origin=now) as checkpoints:
        restore_newest(checkpoints, make_state(small, 0))
    (line,) = caplog.messages
    assert line.endswith("this is 99.0: what follows is the same run up to rounding")


@pytest.mark.parametrize("average", [False, True])
def test_a_checkpoint_of_an_older_version_is_gone_on_with(
    small, tmp_path, caplog, average
):
    saved = make_state(small, 1, average=average)
    with open_at(tmp_path) as checkpoints:
        checkpoints.save(saved, {"note": 1})
    file = tmp_path / "checkpoints" / "1" / "meta" / "metadata"
    meta = json.loads(file.read_text("utf-8"))
    del meta["digest"]
    file.write_text(json.dumps(meta), "utf-8")
    with open_at(tmp_path, origin=ORIGIN) as checkpoints:
        template = make_state(small, 0, average=average)
        state, history = restore_newest(checkpoints, template)
    assert_equal(state, saved)
    assert history == {"note": 1}
    assert caplog.text.count("does not say which config and data") == 1


def record_disk(monkeypatch) -> list[tuple[str, str]]:
    """What is synced, renamed and deleted from now on, in order."""
    calls, fsync, rename, rmtree = [], os.fsync, Path.rename, shutil.rmtree

    def note_fsync(descriptor):
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(path, target):
        calls.append(("rename", str(path)))
        return rename(path, target)

    def note_rmtree(path, **options):
        calls.append(("delete", str(path)))
        rmtree(path, **options)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(shutil, "rmtree", note_rmtree)
    return calls


def test_a_step_is_on_the_disk_before_it_has_its_name(small, tmp_path, monkeypatch):
    """And the older one is deleted only after; until then nothing is called saved."""
    save_all(small, tmp_path, [1])
    with open_at(tmp_path, keep=1) as checkpoints:
        calls = record_disk(monkeypatch)
        checkpoints.save(make_state(small, 2), {})
        assert checkpoints.last_saved is None
        checkpoints.wait()
        assert checkpoints.last_saved == 2
    folder = tmp_path / "checkpoints"
    named = calls.index(("rename", str(folder / "2.tmp")))
    written = list((folder / "2").rglob("*"))
    assert len(written) > 5
    for path in written:
        before = folder / "2.tmp" / path.relative_to(folder / "2")
        assert ("sync", str(before)) in calls[:named]
    entry = calls.index(("sync", str(folder)), named)
    assert named < entry < calls.index(("rename", str(folder / "1")))


def test_a_kill_while_a_step_is_deleted_leaves_no_step(small, tmp_path, monkeypatch):
    rmtree = shutil.rmtree

    def killed(path, **options):
        if Path(path).name != "1.deleted.tmp":
            rmtree(path, **options)
            return
        next(file for file in Path(path).rglob("*") if file.is_file()).unlink()
        if not options:
            raise KeyboardInterrupt

    save_all(small, tmp_path, [1])
    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", killed)
        with open_at(tmp_path, keep=1) as checkpoints:
            checkpoints.save(make_state(small, 2), {})
            with pytest.raises(KeyboardInterrupt):
                checkpoints.wait()
    with open_at(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2]
        assert [e.name for e in checkpoints.directory.iterdir()] == ["2"]


def test_orbax_says_nothing_of_its_own(small, tmp_path, capfd, caplog):
    """A damaged checkpoint is one line, which is ours."""
    save_all(small, tmp_path, [1])
    for file in (tmp_path / "checkpoints" / "1").rglob("*"):
        if file.is_file():
            truncate(file)
    with (
        open_at(tmp_path) as checkpoints,
        pytest.raises(DamagedCheckpointError) as error,
    ):
        checkpoints.read(1)
    assert "\n" not in str(error.value)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
