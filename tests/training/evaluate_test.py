import dataclasses
import errno
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import data, networks
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.runs import files
from optnet_jax.training import evaluate as evaluate_lib
from optnet_jax.training import experiment as experiment_lib
from optnet_jax.training import loop
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.workdir import write_json


class KnownLogits(nn.Module):
    """Logits that follow from the image's mean alone, whatever the parameters are."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, train: bool = False):
        self.param("unused", nn.initializers.zeros_init(), (1,))
        level = images.mean((1, 2, 3))
        classes = jnp.arange(self.num_classes, dtype=jnp.float32)
        return jnp.sin(100 * level[:, None] + classes[None])


def test_the_whole_split_is_measured_exactly(small, monkeypatch):
    """20 images in batches of 16 over 8 devices: padding must not count."""
    monkeypatch.setitem(networks.NETWORKS, "known", KnownLogits)
    config = small.small_config()
    config.model = {"name": "known"}
    experiment = experiment_lib.build(TrainConfig.of(config))
    means = evaluate_lib.evaluate(
        experiment.compiled_eval_step(),
        experiment.init_state().eval_variables,
        experiment,
    )
    images, labels = small.split(small.NUM_EVAL, 2)
    spec = experiment.dataset.spec
    x = (images.astype(np.float64) / 255 - spec.mean[0]) / spec.std[0]
    logits = np.sin(100 * x.mean((1, 2, 3))[:, None] + np.arange(10)[None])
    log_z = np.log(np.exp(logits).sum(1))
    loss = (log_z - logits[np.arange(20), labels]).mean()
    order = np.argsort(-logits, axis=1)
    top1 = 100 * (order[:, 0] != labels).mean()
    top5 = 100 * (order[:, :5] != labels[:, None]).all(1).mean()
    assert 0 < top5 < top1 < 100
    assert means["top1_error"] == pytest.approx(top1)
    assert means["top5_error"] == pytest.approx(top5)
    assert means["loss"] == pytest.approx(loss, rel=1e-4)


def test_options_that_no_shape_tells_apart_are_compared(
    small, tmp_path, monkeypatch, capsys
):
    """Another β2, start, activation or precision is another function of one tree."""
    one_step = {"schedule.steps": 1}
    loop.train(small.small_config(**one_step), tmp_path)
    # What only training reads may differ, and so may a default that is written out.
    config = small.small_config(**one_step, **{"optimizer.momentum": 0.5, "seed": 9})
    config.model.dropout_rate = 0.1
    found = evaluate_lib.evaluate_checkpoint(config, tmp_path)
    file = tmp_path / "eval_1.json"
    before = file.read_bytes()

    def refuse(**changes):
        for field, value in changes.items():
            other = small.small_config(**one_step)
            with other.unlocked():
                other.update_from_flattened_dict({field: value})
            match = rf"trained with other options \(.*{field} was"
            with pytest.raises(InputError, match=match):
                evaluate_lib.evaluate_checkpoint(other, tmp_path)
            assert file.read_bytes() == before

    twin = dataclasses.replace(data.get_spec("optnet_digits"), name="twin")
    monkeypatch.setitem(data.SPECS, "twin", twin)
    changes = {"precision": "bfloat16", "data.dataset": "twin"}
    refuse(**changes, **{"model.dropout_rate": 0.2})
    # A checkpoint of an older version does not say what it is of; config.json does.
    read = Checkpoints.read_meta
    older = lambda *args: dataclasses.replace(read(*args), origin=None)  # noqa: E731
    monkeypatch.setattr(Checkpoints, "read_meta", older)
    refuse(precision="bfloat16")
    (tmp_path / "config.json").unlink()
    assert evaluate_lib.evaluate_checkpoint(config, tmp_path) == found
    assert "does not say with which config it was trained" in capsys.readouterr().out


def test_any_checkpoint_can_be_evaluated_also_where_nothing_can_be_written(
    small, tmp_path, monkeypatch, capsys
):
    config = small.small_config(**{"average.decay": 0.5})
    result = loop.train(config, tmp_path)
    for which, expected in (
        ("last", result["final"]),
        ("best", result["best"]),
        (str(result["final"]["step"]), result["final"]),
    ):
        config.eval.checkpoint = which
        found = evaluate_lib.evaluate_checkpoint(config, tmp_path)
        for name in ("step", "loss", "top1_error", "top5_error"):
            assert found[name] == expected[name]
    assert (tmp_path / f"eval_{result['final']['step']}.json").exists()

    config.eval.checkpoint = "7"
    with pytest.raises(InputError, match="no checkpoint '7': use last, best"):
        evaluate_lib.evaluate_checkpoint(config, tmp_path)
    config.eval.checkpoint = "last"
    config.model.features = 6
    with pytest.raises(InputError, match=r"options \(model.features was 4, now 6\)"):
        evaluate_lib.evaluate_checkpoint(config, tmp_path)
    config.model.features = 4

    def read_only(file, content):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "write_durably", read_only)
    with pytest.raises(InputError, match=r"eval_16.json cannot be written \(Read-only"):
        evaluate_lib.evaluate_checkpoint(config, tmp_path)
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"test loss {result['final']['loss']:.4f}" in said


def test_images_are_normalised_as_those_of_the_training(
    small, tmp_path, monkeypatch, capsys
):
    """A set that has measured another mean since is seen as the network was trained."""
    config = small.small_config(**{"schedule.steps": 1})
    final = loop.train(config, tmp_path)["final"]
    file = tmp_path / "dataset.json"
    trained = files.read_object(file)
    said = "std are those of"

    def evaluated():
        capsys.readouterr()
        found = evaluate_lib.evaluate_checkpoint(config, tmp_path)
        assert files.read_object(tmp_path / "eval_1.json") == found
        assert found["fingerprint"] == trained["fingerprint"]
        return found["loss"], capsys.readouterr().out

    loss, out = evaluated()
    assert loss == final["loss"]
    assert said not in out
    spec = data.get_spec("optnet_digits")
    other = dataclasses.replace(spec, mean=(0.9,), std=(0.2,))
    monkeypatch.setitem(data.SPECS, "optnet_digits", other)
    loss, out = evaluated()
    assert loss == final["loss"]
    assert f"mean and {said} {tmp_path}, not this set's own" in out
    for damaged in ({"mean": "dark"}, {"std": [0.1, 0.1]}):
        write_json(file, trained | damaged)
        with pytest.raises(InputError, match=r"data set is damaged \(.*copy the work"):
            evaluate_lib.evaluate_checkpoint(config, tmp_path)
    file.unlink()
    loss, out = evaluated()
    assert loss != final["loss"]
    assert "does not say its mean and std: this set's own are taken" in out


def test_a_workdir_without_checkpoints_is_named(small, tmp_path):
    with pytest.raises(InputError, match="no checkpoint in .*train first"):
        evaluate_lib.evaluate_checkpoint(small.small_config(), tmp_path / "none")


def test_many_batches_do_not_queue_up(small, monkeypatch):
    experiment = experiment_lib.build(TrainConfig.of(small.small_config()))
    images, labels = small.split(16, 3)
    batch = {
        "image": images.astype(np.float32),
        "label": labels,
        "mask": np.ones(16, np.float32),
    }
    monkeypatch.setattr(experiment.dataset, "eval_batches", lambda: iter([batch] * 11))
    calls = []

    def eval_step(variables, batch):
        calls.append(batch["label"])
        return {"loss": (jnp.float32(1), jnp.float32(16))}

    means = evaluate_lib.evaluate(eval_step, None, experiment)
    assert len(calls) == 11
    assert means == {"loss": 1 / 16}
    assert jax.device_get(calls[0]).tolist() == labels.tolist()
