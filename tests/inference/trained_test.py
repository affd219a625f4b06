import copy
import dataclasses
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn import datasets

import optnet_jax
from optnet_jax import configuration, networks
from optnet_jax.configuration import TrainConfig, as_json, overrides
from optnet_jax.data import digits
from optnet_jax.errors import InputError
from optnet_jax.inference import export, released, report
from optnet_jax.inference import images as images_lib
from optnet_jax.runs.files import read_object
from optnet_jax.studies import dispatch
from optnet_jax.training import loop
from optnet_jax.training.differences import settled


@pytest.fixture
def finished(small, tmp_path):
    """A finished run, moved to where it was not trained."""
    config = small.small_config()
    config.schedule.epochs = 2.0
    loop.train(config, str(tmp_path / "trained"))
    return (tmp_path / "trained").rename(tmp_path / "moved")


def test_predictions_have_the_error_that_evaluation_wrote(finished, small):
    run = optnet_jax.load_run(finished)
    images, labels = small.split(small.NUM_EVAL, 2)
    found = run.predict(images)
    error = 100 * np.mean(found.labels != labels)
    result = read_object(finished / "result.json")
    assert error == pytest.approx(result["final"]["top1_error"])
    assert found.probabilities.sum(1) == pytest.approx(np.ones(len(images)), abs=1e-5)
    assert {len(value) for value in run.features(images[:3]).values()} == {3}
    floats = run.predict([image / 255 for image in images])
    np.testing.assert_allclose(floats.probabilities, found.probabilities, atol=1e-6)
    with_alpha = np.concatenate([images[0], np.full((8, 8, 1), 255, np.uint8)], -1)
    opaque = run.predict(with_alpha).probabilities
    np.testing.assert_allclose(opaque, found.probabilities[:1], atol=1e-6)
    with pytest.raises(InputError, match=r"255\.0: bring them to an image's, uint8"):
        run.predict(np.full((8, 8), 255.0))
    with pytest.raises(InputError, match="image is an array of object: give a path"):
        run.predict(images.astype(object))
    unmasked = np.ma.masked_greater(images, 255)
    np.testing.assert_array_equal(
        run.predict(unmasked).probabilities, found.probabilities
    )
    with pytest.raises(InputError, match="image 1 has pixels that are masked"):
        run.predict([unmasked[0], np.ma.masked_greater(images[1], 100)])
    assert [len(each) for each in found.top(1000)] == [10] * len(images)
    for count in (-1, 0, 1.5):
        with pytest.raises(InputError, match=f"count={count} must be"):
            found.top(count)
    best = optnet_jax.load_run(finished, "best")
    assert best.step == result["best"]["step"]
    assert optnet_jax.load_run(finished, run.step).step == run.step
    for inside in ("config.json", "checkpoints", "checkpoints/8"):
        with pytest.raises(
            InputError, match=f"/{inside} is no workdir: name {finished}"
        ):
            optnet_jax.load_run(finished / inside)


def test_a_run_that_is_missing_in_a_study_is_no_part_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "tables"}')
    with pytest.raises(InputError, match=f"there is no workdir {tmp_path}/runs/first"):
        optnet_jax.load_run(tmp_path / "runs" / "first")


def test_a_workdir_that_can_only_be_read_is_enough(finished, small):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    optnet_jax.load_run(finished).predict(small.split(2, 0)[0])
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


def test_a_folder_here_goes_before_a_released_network(finished, monkeypatch, capsys):
    assert "digits_agd" in released()
    finished.rename(finished.with_name("digits_agd"))
    monkeypatch.chdir(finished.parent)
    found = optnet_jax.load_run("digits_agd")
    assert found.card is None
    assert f"is read from {finished.with_name('digits_agd')}" in capsys.readouterr().out


def test_what_a_released_network_leaves_in_its_folder_is_no_run(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    here = Path("digits_agd")
    report.predict_files(here, [str(tmp_path / "black.png")])
    export.export_run(here)
    assert {path.name for path in here.iterdir()} == {
        "exported",
        "plots",
        "predictions.csv",
    }
    assert optnet_jax.load_run("digits_agd").card == released()["digits_agd"]
    # A run whose checkpoints are gone is not taken for the released network.
    (here / "config.json").write_text("{}")
    with pytest.raises(InputError, match="there is no checkpoint in"):
        optnet_jax.load_run("digits_agd")


def test_where_nothing_can_be_written_the_cure_is_none_that_changes_the_run(
    tmp_path, capsys
):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    here = Path("digits_agd")
    here.touch()
    with pytest.raises(
        InputError, match=r"\(File exists\): the result stands above; .* use a copy"
    ):
        report.predict_files(here, [str(tmp_path / "black.png")])
    assert "black.png" in capsys.readouterr().out
    here.unlink()
    here.mkdir()
    (here / "exported").touch()
    with pytest.raises(
        InputError, match=r"\(File .*\): make room or give write permission"
    ):
        export.export_run(here)


@pytest.fixture
def to_export(monkeypatch):
    """A network whose program is not traced."""
    program = types.SimpleNamespace(serialize=bytes)
    monkeypatch.setattr(export, "stablehlo", lambda run: program)
    return optnet_jax.load_run("digits_agd")


def test_the_final_error_of_a_card_is_that_of_its_weights(to_export, tmp_path):
    released_card = to_export.card
    assert released_card["best"]["step"] != to_export.step
    for step, of in ((to_export.step, "final"), (374, "best"), (5, None)):
        to_export.step = step
        card = json.loads(export.export(to_export, tmp_path / "x")[1].read_text())
        assert card["final"] == released_card.get(of, export.NOT_RECORDED)
        assert card["best"] == released_card["best"]


RESIDUAL = {"stage_sizes": (1, 2), "widths": (4, 8), "num_classes": 3}
DENSE = {"stage_sizes": (1, 1), "growth_rate": 4, "num_classes": 3}
VIT = {"depth": 2, "width": 8, "heads": 2, "patch_size": 4, "num_classes": 3}


@pytest.mark.parametrize(
    ("name", "fields", "lacking"),
    [
        ("resnet34", RESIDUAL, None),
        ("resnet34", {**RESIDUAL, "activation": "tanh"}, "activation="),
        ("resnet34", {**RESIDUAL, "unit_relu": True}, "does not have unit_relu=True"),
        ("resnet34", {**RESIDUAL, "learned": ("beta1",)}, "does not have learned="),
        ("hb_net34", RESIDUAL, "not have recurrence=HeavyBall"),
        ("densenet121", DENSE, None),
        ("agd_net121", DENSE, "does not have recurrence=HistorySum"),
        ("vit", VIT, None),
        ("vit", {**VIT, "recurrence": "gd", "splitting": "in_turn"}, None),
        ("vit", {**VIT, "skip": True}, "not have recurrence=HeavyBall"),
        (
            "vit",
            {**VIT, "recurrence": "leapfrog"},
            "not have recurrence=HeavyBall",
        ),
        ("resnet20", {}, "ImageNet's stem"),
    ],
)
def test_torchvisions_file_is_of_torchvisions_functions_alone(
    to_export, tmp_path, capsys, name, fields, lacking
):
    to_export.network = networks.create(name, **fields)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(to_export.network.init, jax.random.key(0), images)
    to_export.variables = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    *_, last = export.export(to_export, tmp_path / "x")
    said, file = capsys.readouterr().out, tmp_path / "x.torchvision.safetensors"
    assert file.exists() is (last == file) is (lacking is None)
    if lacking:
        assert re.search(f"^not written: {file}: .*{lacking}.*\n$", said)
    else:
        assert not said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: shutil.rmtree(w), "there is no workdir"),
        (lambda w: shutil.rmtree(w / "checkpoints"), "checkpoint"),
        (
            lambda w: (w / "checkpoints" / "8").rename(w / "checkpoints" / "9"),
            r"step 9 .* holds step 8: .*\): choose another step of \[4\]",
        ),
        (lambda w: (w / "dataset.json").write_text('{"name": 3}'), "data set is damag"),
        (
            lambda w: (w / "dataset.json").write_text(
                (w / "dataset.json").read_text().replace('"9"', '"9", "10"')
            ),
            r"\(10,\) there and \(11,\) here; .* said of its data set: 11 classes here",
        ),
    ],
)
def test_what_cannot_be_loaded_says_so(finished, change, message):
    change(finished)
    with pytest.raises(InputError, match=message):
        optnet_jax.load_run(finished)


def test_exported_network_is_the_trained_one(finished, small):
    images, _ = small.split(small.NUM_EVAL, 2)
    expected = optnet_jax.load_run(finished).predict(images).probabilities
    weights, card, program = export.export_run(finished)
    again = optnet_jax.load_run(weights)
    np.testing.assert_array_equal(again.predict(images).probabilities, expected)
    found = json.loads(card.read_text())
    assert found["final"] == read_object(finished / "result.json")["final"]
    assert found["command"] == export.NOT_RECORDED  # no file has this config
    copy = export.export(again, finished / "copy")[1]
    assert json.loads(copy.read_text()) == found
    with pytest.raises(InputError, match=r"x\.safetensors cannot be written \(File"):
        export.export(again, finished / "result.json" / "x")
    again.network = types.SimpleNamespace(apply=lambda _, x: jnp.zeros(len(x)))
    with pytest.raises(
        InputError, match="card are written, but small gives no program"
    ):
        export.export(again, finished / "own")
    (finished / "result.json").unlink()
    export.export_run(finished)  # a run that was stopped
    assert json.loads(card.read_text())["final"] == export.NOT_RECORDED
    exported = jax.export.deserialize(bytearray(program.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    for count in (1, 7):
        probabilities = exported.call(images[:count])
        np.testing.assert_allclose(probabilities, expected[:count], atol=1e-6)
    with pytest.raises(InputError, match=rf"holds step {again.step} alone, not 'best'"):
        optnet_jax.load_run(weights, "best")
    for name, damage in {"step": "7", "dataset": ["a"], "config": None}.items():
        card.write_text(json.dumps(found | {name: damage}))
        with pytest.raises(InputError, match=f"{name}=.* must be"):
            optnet_jax.load_run(weights)
    card.unlink()
    with pytest.raises(InputError, match="has no card"):
        optnet_jax.load_run(weights)
    weights.unlink()
    with pytest.raises(InputError, match="there is no weight file"):
        optnet_jax.load_run(weights)


def test_files_are_classified_from_the_command_line(finished, small, tmp_path):
    images, _ = small.split(4, 2)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "pictures" / f"é {i}.png")
    config = small.small_config()
    pictures = [str(tmp_path / "pictures")]
    dispatch.run(config, str(finished), "predict", images=pictures)
    rows = (finished / "predictions.csv").read_text("utf-8").splitlines()
    expected = optnet_jax.load_run(finished).predict(images)
    assert [row.split(",")[1] for row in rows[1:]] == expected.names
    assert (finished / "plots" / "predictions.png").stat().st_size > 1000
    config.eval.checkpoint = "7"
    for mode, files in (("predict", pictures), ("export", ())):
        with pytest.raises(InputError, match=r"no checkpoint '7': use last, best, or"):
            dispatch.run(config, str(finished), mode, images=files)
    config.eval.checkpoint = "last"
    (tmp_path / "pictures" / "notes.png").write_text("no picture")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "a.png").symlink_to("gone")
    for bad, message in (
        ([""], "image 0='' must be the path of a file"),
        (["~nobody at all/a.png"], "names a home folder that is not there"),
        (["x" * 300], "has a name of more than 255 bytes"),
        ([str(tmp_path / "link")], r"a\.png is not a readable .*No such file"),
        (pictures, r"notes\.png is not a readable picture"),
        ([], "needs --images"),
        ([str(finished / "checkpoints")], "there is no image in the folder"),
    ):
        with pytest.raises(InputError, match=message):
            report.predict_files(finished, bad)
    with pytest.raises(InputError, match="--images is for --mode=predict"):
        dispatch.run(config, str(finished), "eval", images=pictures)


def test_a_name_that_is_not_utf8_is_written_as_it_is_on_the_disk(tmp_path):
    name = os.fsencode(tmp_path / "caf") + b"\xe9.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(os.fsdecode(name))
    report.predict_files(Path("digits_agd"), [str(tmp_path)])
    _, row = Path("digits_agd/predictions.csv").read_bytes().splitlines()
    assert row.startswith(name + b",")


def test_files_are_cut_and_resized_once(tmp_path, monkeypatch):
    """As ImageNet is, whose middle of 224 is cut out of 256."""
    run = optnet_jax.load_run("digits_agd")
    run.preprocessing = dataclasses.replace(run.preprocessing, resize=10)
    pixels = np.random.default_rng(0).integers(0, 256, (19, 13), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(report, "load_run", lambda *_: run)
    found = report.predict_files(tmp_path, [str(tmp_path / "a.png")])
    expected = run.predict(pixels).probabilities
    np.testing.assert_array_equal(found.probabilities, expected)


def test_a_folder_is_looked_through_as_one_that_is_trained_on(tmp_path):
    folder, other = tmp_path / "photos", tmp_path / "other"
    for name in ("photos/a/1.png", "photos/.thumbs/3.png", "other/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (folder / "b").symlink_to(other)
    (other / "back").symlink_to(folder)
    found = [source.name for source in images_lib.sources(folder, 3)]
    assert found == [str(folder / "a" / "1.png"), str(folder / "b" / "2.png")]


def test_a_released_network_has_the_error_of_its_card():
    """Digits come with scikit-learn, so these can be measured anywhere."""
    measured = 0
    for name, card in released().items():
        if card["config"]["data"]["dataset"] != "optnet_digits":
            continue
        pixels, labels = datasets.load_digits(return_X_y=True)
        _, test = digits.train_test_indices()
        images = np.rint(pixels[test] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        found = optnet_jax.load_run(name).predict(images)
        error = 100 * np.mean(found.labels != labels[test])
        assert error == pytest.approx(card["final"]["top1_error"])
        measured += 1
    assert measured


def test_an_iterator_of_pictures_is_taken_and_an_open_file_is_not(tmp_path):
    run = optnet_jax.load_run("digits_agd")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    (source,) = run.predict(tmp_path.glob("*.png")).sources
    assert source == str(tmp_path / "black.png")
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(
        InputError, match=r"^cannot identify .*notes\.png.*, or leave it"
    ):
        run.predict(Image.open(path) for path in tmp_path.glob("notes.png"))
    with (
        (tmp_path / "black.png").open("rb") as file,
        pytest.raises(InputError, match="image is an open file: give its path"),
    ):
        run.predict(file)


def test_images_are_numbered_through_and_files_have_their_names(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    batch = np.zeros((2, 8, 8, 1))
    run = optnet_jax.load_run("digits_agd")
    found = run.predict([batch, tmp_path, [batch[0], batch], batch[0]]).sources
    expected = [f"image {place}" for place in range(7)]
    expected[2] = str(tmp_path / "black.png")
    assert found == tuple(expected)
    with pytest.raises(InputError, match="^image 3 has floats from 2"):
        run.predict([batch, tmp_path, [batch[0] + 2]])


def test_three_axes_are_one_image_if_the_last_has_the_channels_of_the_set():
    run = optnet_jax.load_run("digits_agd")
    bands = np.random.default_rng(0).integers(0, 256, (8, 8, 6), np.uint8)
    shape = {"image_shape": (8, 8, 6), "mean": (0.0,) * 6, "std": (1.0,) * 6}
    run.preprocessing = dataclasses.replace(run.preprocessing, **shape)
    for given in (bands, [bands], bands[None]):
        np.testing.assert_array_equal(run.read(given)[1], bands[None])


def test_a_copy_and_a_pickle_predict_the_same():
    run = optnet_jax.load_run("digits_agd")
    expected = run.predict(np.zeros((8, 8))).probabilities
    layers = list(run.features(np.zeros((8, 8))))
    for other in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        found = other.predict(np.zeros((8, 8))).probabilities
        np.testing.assert_array_equal(found, expected)
        assert list(other.features(np.zeros((8, 8)))) == layers


def test_every_card_says_what_was_run():
    """The command in it gives its config; what the run has not kept says so."""
    for name, card in released().items():
        assert {"step", "command", *export.CARD} <= set(card), name
        assert card["dataset"]["version"]
        assert card["date"] > "2026"
        assert card["versions"]["jax"]
        assert re.fullmatch("[0-9a-f]{7,40}|not recorded", card["commit"])
        assert given(card["command"]) == settled(card["config"])


def test_the_command_of_a_card_has_what_was_changed():
    changes = {
        "model.stage_sizes": "2,",
        "data.erase": "0.5",
        "optimizer.name": "adamw",
        "optimizer.options": "b1=0.8, b2=0.9",
        "optimizer.decay_exclude": "bias",
        "data.data_dir": "here",
    }
    words = [f"--config.{name}={text}" for name, text in changes.items()]
    config = given(f"--config=digits_agd:seed=3 {shlex.join(words)}")
    assert (config["seed"], config["data"]["erase"]) == (3, 0.5)
    command = export.command(TrainConfig.of(config))
    config["data"]["data_dir"] = ""
    assert given(command) == config
    assert export.command(TrainConfig.of({**config, "name": "my_own"})) is None
    flag = "configs/folder_hb.py:path=my-flowers,size=32"
    command = export.command(TrainConfig.of(configuration.load(flag)))
    assert command.endswith(f"--config={flag}")


def given(command):
    """Return the config that a command line gives, with every field."""
    words = shlex.split(command)
    (first,) = [word for word in words if word.startswith("--config=")]
    rest = ["main", *words[words.index(first) + 1 :]]
    config = configuration.load(first.partition("=")[2])
    overrides.override(config, rest, networks.field_kinds)
    return settled(as_json(TrainConfig.of(config)))


def test_a_network_is_used_without_tensorflow():
    code = (
        "import sys, numpy, optnet_jax\n"
        "run = optnet_jax.load_run('digits_agd')\n"
        "print(run.predict(numpy.zeros((8, 8), numpy.uint8)).names)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
