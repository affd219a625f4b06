import shutil

import jax
import numpy as np
import pytest
from optnet_jax.configs import recipes
from PIL import Image

from optnet_jax import configuration, data, load_run
from optnet_jax.configuration import TrainConfig
from optnet_jax.data import folder, folder_builder
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError
from optnet_jax.inference.images import Source, read
from optnet_jax.training import evaluate, experiment, loop

SIZE = 16
CLASSES = {
    "Äpfel, grün": (90, 180, 60),
    "red pears": (190, 70, 60),
    "月": (60, 60, 160),
}
FORMS = ("png", "jpg", "bmp", "gif", "tif", "webp", "JPEG")


def write(file, rng, colour):
    size = rng.integers(SIZE, 3 * SIZE, 2)
    noise = rng.normal(0, 20, (*size, 3))
    image = Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8))
    modes = {"png": "RGBA", "JPEG": "CMYK", "tif": "L", "gif": "P"}
    image.convert(modes.get(file.suffix[1:], "RGB")).save(file)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """42 pictures to train on and 6 to test on, in three classes and seven formats."""
    root = tmp_path_factory.mktemp("my pictures")
    rng = np.random.default_rng(0)
    for part, count in (("train", 14), ("test", 2)):
        for name, colour in CLASSES.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                form = FORMS[i % len(FORMS)]
                write(root / part / name / f"no {i}ß.{form}", rng, colour)
    return root


@pytest.fixture(scope="module")
def options(root, tmp_path_factory):
    return {
        "dataset": "optnet_folder",
        "folder": str(root),
        "image_size": SIZE,
        "batch_size": 8,
        "data_dir": str(tmp_path_factory.mktemp("prepared")),
    }


def expected(root, part):
    """Images and labels of a folder, as a trained network is shown them."""
    files = [
        f for name in sorted(CLASSES) for f in sorted((root / part / name).iterdir())
    ]
    labels = [sorted(CLASSES).index(file.parent.name) for file in files]
    seen = Preprocessing((SIZE, SIZE, 3), (0.5,) * 3, (0.2,) * 3)
    return np.stack([read(Source(str(f), f), seen) for f in files]), np.array(labels)


def evaluated(dataset):
    """Return what is evaluated, as pixels, in an order of its own."""
    batches = list(dataset.eval_batches())
    kept = np.concatenate([batch["mask"] for batch in batches]) > 0
    images, labels = (
        np.concatenate([batch[name] for batch in batches])[kept]
        for name in ("image", "label")
    )
    spec = dataset.spec
    return 255 * (images * np.array(spec.std) + np.array(spec.mean)), labels


def in_order(images, labels):
    order = np.lexsort([images.mean((1, 2, 3)), labels])
    return images[order], labels[order]


def test_a_folder_becomes_the_pictures_that_are_in_it(root, options):
    dataset = data.load(options, seed=0)
    assert dataset.class_names == tuple(sorted(CLASSES))
    assert dataset.split.endswith("train 42, test 6 (tested on test)")
    images, labels = in_order(*expected(root, "test"))
    found = in_order(*evaluated(dataset))
    np.testing.assert_allclose(found[0], images, atol=0.01)
    np.testing.assert_array_equal(found[1], labels)
    trained = expected(root, "train")[0] / 255
    np.testing.assert_allclose(dataset.spec.mean, trained.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(dataset.spec.std, trained.std((0, 1, 2)), rtol=1e-6)


def test_it_is_decoded_once(options, monkeypatch):
    first = data.load(options, seed=0)
    monkeypatch.setattr(folder_builder.pictures, "load", None)
    again = data.load(options, seed=0)
    assert again.fingerprint == first.fingerprint
    assert again.description() == first.description()


def test_streamed_it_is_the_same_set_but_for_a_jpeg(root, options, monkeypatch):
    monkeypatch.setattr(folder, "MOST_IN_MEMORY", 0)
    dataset = data.load({**options, "augment": True}, seed=0)
    assert dataset.spec.streamed
    images, labels = in_order(*expected(root, "test"))
    found = in_order(*evaluated(dataset))
    np.testing.assert_array_equal(found[1], labels)
    assert np.abs(found[0] - images).mean() < 4
    batch = next(dataset.train_batches())
    assert batch["image"].shape == (8, SIZE, SIZE, 3)
    trained = expected(root, "train")[0] / 255
    np.testing.assert_allclose(dataset.spec.mean, trained.mean((0, 1, 2)), rtol=1e-6)


def test_streamed_pictures_of_other_labels_are_another_set(
    tmp_path, options, monkeypatch
):
    """A moved picture changes no count and no byte; a copy changes times alone."""
    monkeypatch.setattr(folder, "MOST_IN_MEMORY", 0)
    rng = np.random.default_rng(0)
    for i, name in enumerate(2 * ["train/a", "train/a", "train/b", "test/b"]):
        (tmp_path / "first" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "first" / name / f"{i}.png")
    moved = shutil.copytree(tmp_path / "first", tmp_path / "moved")
    (moved / "train" / "a" / "0.png").rename(moved / "train" / "b" / "0.png")
    shutil.copytree(tmp_path / "first", tmp_path / "copy", copy_function=shutil.copy)
    changes = {"batch_size": 2}
    first, copied, other = (
        data.load({**options, **changes, "folder": str(tmp_path / name)}, seed=0)
        for name in ("first", "copy", "moved")
    )
    assert first.spec.read_from() != copied.spec.read_from()
    assert first.fingerprint == copied.fingerprint
    assert first.split == other.split
    assert first.fingerprint != other.fingerprint


def two_classes(root, count, picture):
    """Save a picture so many times in the folder of each class."""
    for name in ("a", "b"):
        (root / name).mkdir()
        for i in range(count):
            picture.save(root / name / f"{i}.png")


def test_broken_files_are_named_together(tmp_path, options):
    picture = Image.new("RGB", (9, 9), (4, 0, 0))
    two_classes(tmp_path, 5, picture)
    for file in list(tmp_path.glob("*/*.png")):
        file.write_bytes(b"no picture")
        picture.save(file.with_name("sound.png"))
    with pytest.raises(InputError) as caught:
        data.load({**options, "folder": str(tmp_path)}, seed=0)
    message = str(caught.value)
    assert message.count("is not a readable picture") == 3
    assert "and 5 more; mend that and start again" in message
    assert "\n" not in message


def test_pictures_that_are_trained_and_tested_on_are_said(tmp_path, options):
    for i, name in enumerate(("train/a", "train/b", "test/a")):
        (tmp_path / name).mkdir(parents=True)
        for j in range(2):
            picture = Image.new("RGB", (9, 9), (i % 2, j, 0))
            picture.save(tmp_path / name / f"{j}.{('png', 'bmp')[i // 2]}")
    changes = {"folder": str(tmp_path), "batch_size": 2}
    for _ in range(2):  # of a set that is prepared already, too
        dataset = data.load({**options, **changes}, seed=0)
        said = "(tested on test; 2 of test are in train, too, such as test/a/0.bmp)"
        assert dataset.split.endswith(said)


def test_a_picture_that_no_jpeg_can_hold_is_named(tmp_path, options, monkeypatch):
    monkeypatch.setattr(folder, "MOST_IN_MEMORY", 0)
    two_classes(tmp_path, 2, Image.new("L", (1, 70_000)))
    with pytest.raises(InputError, match=r"/a/\d.png is too large \(.*; mend that"):
        data.load({**options, "folder": str(tmp_path)}, seed=0)


def test_pictures_of_one_colour_are_refused(tmp_path, options):
    two_classes(tmp_path, 5, Image.new("RGB", (9, 9)))
    with pytest.raises(InputError, match="are all of one colour"):
        data.load({**options, "folder": str(tmp_path)}, seed=0)


def config(name, root, options, **changes):
    found = configuration.load(f"configs/{name}.py:path={root},size={SIZE}")
    flat = {"data.data_dir": options["data_dir"], "data.batch_size": 8, **changes}
    with found.unlocked():
        found.update_from_flattened_dict(flat)
    return found


@pytest.mark.parametrize("family", ["agd", "densenet", "hb", "resnet"])
def test_each_config_is_of_a_folder(family, options):
    given = config(f"folder_{family}", options["folder"], options)
    built = experiment.build(TrainConfig.of(given))
    assert built.dataset.num_train == 42
    logits = jax.eval_shape(
        lambda: built.module.init_with_output(
            jax.random.key(0), np.zeros((1, SIZE, SIZE, 3), np.float32)
        )[0]
    )
    assert logits.shape == (1, 3)


def test_a_folder_is_looked_through_once(root, options, monkeypatch):
    seen, scan = [], folder.scan
    monkeypatch.setattr(folder, "scan", lambda root: seen.append(root) or scan(root))
    experiment.build(TrainConfig.of(config("folder_hb", root, options)))
    assert seen == [root]


SMALL = {
    "model.stage_sizes": (1, 1),
    "model.widths": (4, 8),
    "schedule.epochs": 2.0,
    "schedule.warmup_epochs": 0.0,
}


def test_a_run_from_a_folder_to_its_result(root, options, tmp_path, caplog):
    given = config("folder_hb", root, options, **SMALL)
    given.model.name = "hb_net"
    result = loop.train(given, tmp_path)
    assert result["steps"] == 10
    errors = result["final"]["top1_error"] * 6 / 100
    assert errors == pytest.approx(round(errors), abs=1e-4)
    moved = given.copy_and_resolve_references()
    moved.data.folder = f"{root}/../{root.name}"
    assert loop.train(moved, tmp_path) == result
    evaluated = evaluate.evaluate_checkpoint(moved, tmp_path)
    assert evaluated["top1_error"] == pytest.approx(result["final"]["top1_error"])
    # Another folder's pictures are seen as those that the network was trained on.
    for part in ("train", "test"):
        pixels, labels = expected(root, part)
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            (place := tmp_path / "dark" / part / sorted(CLASSES)[label]).mkdir(
                parents=True, exist_ok=True
            )
            Image.fromarray(image // 2).save(place / f"{i}.png")
    moved.data.folder = str(tmp_path / "dark")
    predicted = load_run(tmp_path).predict(pixels // 2).probabilities
    loss = -np.log(predicted[np.arange(len(labels)), labels]).mean()
    dark = evaluate.evaluate_checkpoint(moved, tmp_path)
    assert dark["loss"] == pytest.approx(loss, rel=1e-5)
    assert dark["fingerprint"] != evaluated["fingerprint"]
    shutil.copytree(root, tmp_path / "renamed")
    for name in ("renamed", "gone"):
        moved.data.folder = str(tmp_path / name)
        assert loop.train(moved, tmp_path) == result
    assert not caplog.records
    # Another name is another order of labels.
    for part in ("train", "test"):
        (tmp_path / "renamed" / part / "月").rename(
            tmp_path / "renamed" / part / "moon"
        )
    moved.data.folder = str(tmp_path / "renamed")
    with pytest.raises(InputError, match="trained on the classes .*'月'.*'moon'"):
        evaluate.evaluate_checkpoint(moved, tmp_path)
    assert loop.train(moved, tmp_path) == result
    shutil.rmtree(tmp_path / "renamed" / "test" / "moon")
    (tmp_path / "renamed" / "test" / "moon").mkdir()
    assert loop.train(moved, tmp_path) == result
    other = f"{tmp_path} was trained on other files than there are now "
    for record, reason in zip(
        caplog.records, ("(names, sizes or times of", f"({tmp_path}"), strict=True
    ):
        assert record.getMessage().startswith(other + reason)


def test_a_size_that_the_network_cannot_take_is_said_before_any_decoding(
    root, options, monkeypatch
):
    monkeypatch.setattr(folder_builder.pictures, "load", None)
    given = config("folder_resnet", root, options)
    given.data.image_size = 3
    with pytest.raises(InputError, match="images of 3x3 are smaller than the network"):
        experiment.build(TrainConfig.of(given))


def test_the_recipe_names_a_run_after_the_folder():
    given, _ = recipes.folder("folder_hb", "path=/a/b/flowers,size=32")
    assert given.name == "folder_hb-path=flowers-size=32"
    assert (given.data.folder, given.data.image_size) == ("/a/b/flowers", 32)
