import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

from optnet_jax import data
from optnet_jax.errors import InputError
from optnet_jax.runs import step_folders
from optnet_jax.runs.program import Interrupted
from optnet_jax.training import loop, run, writers
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.evaluate import evaluate_checkpoint

RESULT_FIELDS = (
    "config network dataset seed parameters steps epochs wall_seconds device final "
    "best versions"
)


def metrics_of(workdir):
    text = (workdir / "metrics.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def stop_after(monkeypatch, steps):
    """Send SIGTERM to this process when the metrics of step ``steps`` arrive."""
    record = run.Run._record

    def recording(run, step, sums):
        record(run, step, sums)
        if step + 1 == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run.Run, "_record", recording)


MODERN = {
    "precision": "bfloat16",
    "profile.start_step": 6,
    "profile.steps": 1,
    "optimizer.accumulate": 2,
    "schedule.decay": "cosine",
    "schedule.warmup_epochs": 1.0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "optimizer.options": "b2=0.99, eps=1e-7",
    "optimizer.clip_norm": 1.0,
    "optimizer.decay_exclude": ("bias",),
    "data.trivial_augment": True,
    "data.erase": 0.5,
    "data.mixup": 0.2,
    "data.cutmix": 1.0,
    "loss.label_smoothing": 0.1,
    "average.decay": 0.9,
}


@pytest.mark.parametrize("recipe", [{}, MODERN], ids=["paper", "today"])
def test_two_epochs_are_one_epoch_and_a_resume(
    small, tmp_path, monkeypatch, capsys, recipe
):
    """Bit for bit, also when the stop falls within an epoch."""
    config = small.small_config(**{"schedule.epochs": 2.0, **recipe})
    whole = loop.train(config, tmp_path / "whole")

    with monkeypatch.context() as context:
        stop_after(context, 2)
        with pytest.raises(Interrupted) as stopped:
            loop.train(config, tmp_path / "parts")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "parts" / "result.json").exists()
    # The signal comes while step 3 is on the device, and step 3 is saved.
    assert step_folders.steps(tmp_path / "parts" / "checkpoints") == [3]
    assert "stopped by SIGTERM after step 3 of 8" in capsys.readouterr().out
    parts = loop.train(config, tmp_path / "parts")

    for name in ("checksum", "final", "best"):
        assert parts[name] == whole[name]
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")
    with (
        np.load(tmp_path / "whole" / "coefficients.npz") as ours,
        np.load(tmp_path / "parts" / "coefficients.npz") as theirs,
    ):
        jax.tree.map(np.testing.assert_array_equal, dict(ours), dict(theirs))
    for workdir in (tmp_path / "whole", tmp_path / "parts"):
        profiled = list((workdir / "profile").rglob("*.xplane.pb"))
        assert bool(profiled) == bool(recipe)
    evaluated = evaluate_checkpoint(config, tmp_path / "whole")
    assert evaluated["loss"] == pytest.approx(whole["final"]["loss"], rel=1e-6)


def test_the_result_and_a_second_start(small, tmp_path, capsys):
    config = small.small_config()
    result = loop.train(config, tmp_path)
    assert result.keys() >= set(RESULT_FIELDS.split())
    assert result["final"].keys() >= {"loss", "top1_error", "top5_error"}
    assert result["best"].keys() >= {"top1_error", "epoch"}
    assert result["parameters"] == 96
    assert (result["steps"], result["epochs"]) == (16, 4.0)
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == result
    errors = [
        row["test/top1_error"] for row in metrics_of(tmp_path) if "test/loss" in row
    ]
    assert len(errors) == 4
    assert result["final"]["top1_error"] == errors[-1]
    assert result["best"]["top1_error"] == min(errors)
    # 20 test images in batches of 16: each is worth 5 %.
    assert {error % 5 for error in errors} == {0.0}
    assert list(tmp_path.glob("events.out.tfevents.*"))
    with np.load(tmp_path / "coefficients.npz") as file:
        assert file["alpha"].shape == (4, 2)
        assert file["step"].tolist() == [4, 8, 12, 16]
    capsys.readouterr()
    assert loop.train(config, tmp_path) == result
    assert "is finished: epoch 4" in capsys.readouterr().out
    config.seed = 1
    with pytest.raises(InputError, match=r"another config \(seed was 0, now 1\)"):
        loop.train(config, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(small, tmp_path, caplog):
    config = small.small_config(**{"checkpoint.every_epochs": 0.25})
    batches = small.load(config.data, seed=0)
    broken = type(batches).train_batches

    def train_batches(self, start_step=0):
        for step, batch in enumerate(broken(self, start_step), start_step):
            yield batch | {"image": batch["image"] * (np.nan if step == 5 else 1)}

    with pytest.MonkeyPatch.context() as context:
        context.setattr(type(batches), "train_batches", train_batches)
        with pytest.raises(InputError) as error:
            loop.train(config, tmp_path)
    message = str(error.value)
    assert "the loss became nan in step 6 of 16" in message
    assert "learning rate 0.05, last good checkpoint: 5" in message
    assert "weight decay 0.0001" in message
    assert "--config.optimizer.weight_decay or set" in message
    assert "\n" not in message
    assert not (tmp_path / "result.json").exists()

    # Whose run it is is known without config.json, too.
    written = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").unlink()
    other = small.small_config(
        **{"checkpoint.every_epochs": 0.25, "optimizer.learning_rate": 0.1}
    )
    match = r"another run \(optimizer.learning_rate was 0.05, now 0.1\)"
    with pytest.raises(InputError, match=match):
        loop.train(other, tmp_path)
    assert not (tmp_path / "config.json").exists()
    described = (tmp_path / "dataset.json").read_bytes()
    spec = data.get_spec("optnet_digits")
    for field, value in (("pad", 0), ("flip", True), ("mean", (0.5,)), ("std", (1.0,))):
        with pytest.MonkeyPatch.context() as context:
            edited = dataclasses.replace(spec, **{field: value})
            context.setitem(data.SPECS, "optnet_digits", edited)
            match = rf"another run \(its Spec's {field} was .*, now .*use its config, d"
            with pytest.raises(InputError, match=match):
                loop.train(config, tmp_path)
    assert (tmp_path / "dataset.json").read_bytes() == described

    # Nothing is lost: with the data mended the run goes on from step 5.
    (tmp_path / "config.json").write_bytes(bytes(100))
    assert loop.train(config, tmp_path)["steps"] == 16
    assert (tmp_path / "config.json").read_bytes() == written
    assert caplog.text.count("config.json is damaged") == 1


def test_a_gpu_that_is_not_repeatable_is_not_recorded_as_such(
    small, tmp_path, monkeypatch
):
    config = small.small_config(deterministic=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(InputError, match=r"\(config.deterministic\): call optnet_jax"):
        loop.train(config, tmp_path / "run")


def test_a_last_step_that_diverges_is_no_result(small, tmp_path):
    """Its loss is that of the state before it, which is finite."""
    config = small.small_config(
        **{"optimizer.learning_rate": 1e38, "schedule.steps": 1}
    )
    with pytest.raises(run.DivergedError, match="test loss became nan in step 1 of 1"):
        loop.train(config, tmp_path)
    assert not (tmp_path / "result.json").exists()
    assert step_folders.steps(tmp_path / "checkpoints") == []


def test_a_state_or_a_gradient_that_is_not_finite_stops_the_run(
    small, tmp_path, monkeypatch
):
    """An evaluation need not show it: the momentum alone is broken, the loss whole."""
    at_event, record = run.Run._at_event, run.Run._record

    def broken(run, done, state):
        if done == 8:
            momentum = jax.tree.map(lambda leaf: leaf * np.nan, state.opt_state)
            state = state.replace(opt_state=momentum)
        at_event(run, done, state)

    def overflown(run, step, sums):
        if step == 2:
            sums = {**sums, "gradient_norm": (np.float32("inf"), np.float32(1))}
        record(run, step, sums)

    for name, change, match in (
        ("_record", overflown, "gradient norm became inf in step 3.*no checkpoint yet"),
        ("_at_event", broken, r"opt_state.* nan in step 8 of 16.*last good .*: 4"),
    ):
        with monkeypatch.context() as context:
            context.setattr(run.Run, name, change)
            with pytest.raises(run.DivergedError, match=match):
                loop.train(small.small_config(), tmp_path)


@pytest.mark.parametrize("keep_best", [False, True])
def test_the_best_step_stays_if_that_is_asked_for(
    small, tmp_path, monkeypatch, keep_best
):
    monkeypatch.setattr(run.History, "best_step", property(lambda history: 4))
    fields = {"checkpoint.keep": 1, "checkpoint.keep_best": keep_best}
    loop.train(small.small_config(**fields), tmp_path)
    steps = {int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()}
    assert steps == ({4, 16} if keep_best else {16})


@pytest.mark.parametrize("gone", [False, True])
def test_a_full_disk_or_a_workdir_that_is_gone_ends_the_run(
    small, tmp_path, monkeypatch, gone
):
    write, workdir = writers.RunWriter.write_scalars, tmp_path / "run"
    none = {"checkpoint.every_epochs": 9.0, "checkpoint.keep_best": False}
    config = small.small_config(**none if gone else {})

    def full(writer, step, scalars):
        if step == 12 and gone:
            workdir.rename(tmp_path / "elsewhere")
            (workdir / "any").touch()
        elif step == 12:
            raise OSError(28, "No space left on device")
        write(writer, step, scalars)

    with monkeypatch.context() as context:
        context.setattr(writers.RunWriter, "write_scalars", full)
        match = r"\(No space left on device\), the checkpoint of step \d+ is intact"
        if gone:
            match = r"could not be written .*No such file.*no earlier checkpoint"
        with pytest.raises(InputError, match=match):
            loop.train(config, workdir)
    assert loop.train(config, workdir)["steps"] == 16


def test_a_config_that_cannot_run_leaves_no_workdir(small, tmp_path):
    config = small.small_config()
    config.model = {"name": "smal"}
    with pytest.raises(InputError, match="unknown network 'smal'"):
        loop.train(config, tmp_path / "runs" / "run")
    # Known only when the folder of the checkpoints has been made.
    config = small.small_config(**{"checkpoint.warm_start": str(tmp_path / "none")})
    with pytest.raises(InputError, match="there is no workdir or weight file"):
        loop.train(config, tmp_path / "runs" / "run")
    assert not list(tmp_path.iterdir())
    # A folder that was there stays.
    with pytest.raises(InputError, match="there is no workdir or weight file"):
        loop.train(config, tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_warm_start_takes_the_variables_and_nothing_else(small, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(loop.agreement, "check_workdir", looked.append)
    one_epoch = {"schedule.epochs": 1.0}
    loop.train(small.small_config(**one_epoch), tmp_path / "first")
    config = small.small_config(
        **one_epoch,
        **{
            "checkpoint.warm_start": f"{tmp_path / 'first'}@4",
            "optimizer.learning_rate": 1e-30,
            "optimizer.weight_decay": 0.0,
        },
    )
    second = loop.train(config, tmp_path / "second")
    assert second["steps"] == 4
    # Other hosts wait for the files of the source, whichever step of it is meant.
    assert looked[1:] == [tmp_path / "second", tmp_path / "first"]
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaves = []
    for name in ("first", "second"):
        directory = tmp_path / name / "checkpoints"
        with Checkpoints(directory, sharding=sharding, read_only=True) as checkpoints:
            leaves.append(checkpoints.read(4)[0])
    for name, leaf in leaves[0].items():
        if name.startswith("params."):
            np.testing.assert_array_equal(leaf, leaves[1][name])
