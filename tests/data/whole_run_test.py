"""From an archive to the table: the configs that need data which is not here."""

import json

import pytest

from optnet_jax import configuration, main
from optnet_jax.data import prepare
from optnet_jax.studies.report import __main__ as report

SMALL = {
    "schedule.epochs": 2.0,
    "data.batch_size": 8,
    "checkpoint.every_epochs": 1.0,
    "model.growth_rate": 4,
}


def run(config_file, data_dir, workdir, changes):
    config = configuration.load(config_file)
    flat = {**SMALL, "data.data_dir": str(data_dir), **changes}
    with config.unlocked():
        config.update_from_flattened_dict(flat)
    main.run(config, str(workdir), "train")
    return json.loads((workdir / "result.json").read_text("utf-8"))


def assert_whole(workdir, result, steps, num_eval):
    """Everything that a run leaves is there, and a page can be made of it."""
    assert result["steps"] == steps
    errors = result["final"]["top1_error"] * num_eval / 100
    assert errors == pytest.approx(round(errors), abs=1e-4)
    names = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "plots"} <= names
    assert list((workdir / "plots").glob("*.png"))
    report.main([str(workdir)])
    assert result["network"] in (workdir / "report.html").read_text("utf-8")


def test_cifar_from_the_archive_to_the_report(tmp_path, cifar_archive, no_network):
    archive, _ = cifar_archive("cifar100", tmp_path, num_train=33, num_test=11)
    data_dir, workdir = tmp_path / "data", tmp_path / "run"
    arguments = (f"--archive={archive}", f"--data_dir={data_dir}")
    prepare.main(["--dataset=cifar100", *arguments])
    name = "configs/cifar_agd.py:dataset=cifar100,augment=True"
    changes = {"model.stage_sizes": (2, 2)}
    result = run(name, data_dir, workdir, changes)
    assert result["split"].startswith("cifar100")
    # 33 images in batches of 8: the last one waits for the next epoch's shuffle.
    assert_whole(workdir, result, steps=8, num_eval=11)


def test_imagenet_from_the_archives_to_the_report(
    tmp_path, imagenet_archives, no_network
):
    data_dir, workdir = tmp_path / "data", tmp_path / "run"
    imagenet_archives(tmp_path, num_train=24, num_eval=7)
    names = ("train", "val")
    archives = [f"--archive={tmp_path}/ILSVRC2012_img_{name}.tar" for name in names]
    arguments = ("--dataset=imagenet2012", *archives, f"--data_dir={data_dir}")
    prepare.main(arguments)
    changes = {
        "data.image_size": 32,
        "data.shuffle_buffer": 8,
        "model.stage_sizes": (1, 1),
        "model.batch_norm_group": 4,
    }
    result = run("configs/imagenet_agd.py", data_dir, workdir, changes)
    assert_whole(workdir, result, steps=6, num_eval=7)
