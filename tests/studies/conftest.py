"""Studies run end to end, and finished runs made by hand, a ``result.json`` each."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.studies.images import Images


def finish(directory, config, *, last=5.0, best=4.0, top5=1.0, **more):
    evaluation = {"epoch": 3.0, "loss": 0.1, "top5_error": top5}
    result = {
        "config": config,
        "network": config["model"]["name"],
        "dataset": config["data"]["dataset"],
        "seed": config["seed"],
        "parameters": 1234,
        "steps": 100,
        "epochs": 20.0,
        "date": "2026-11-23",
        "wall_seconds": 50.0,
        "device": "1 x cpu (1 process(es))",
        "final": evaluation | {"top1_error": last},
        "best": evaluation | {"top1_error": best},
        "versions": {"jax": "0.10.2"},
        **more,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(json.dumps(result), "utf-8")
    return directory


@pytest.fixture(name="finish")
def finished():
    return finish


@pytest.fixture(scope="session")
def run_study():
    """Run a study; return its report, and its text. Cells that are there are kept."""

    def run(study, config, folder):
        report = study.run(config, folder)
        file = folder / f"{study.name}.json"
        assert json.loads(file.read_text("utf-8")) == report
        for name in study.figures(report):
            picture = (folder / "plots" / f"{name}.png").read_bytes()
            assert picture.startswith(b"\x89PNG")
        text = (folder / f"{study.name}.md").read_text("utf-8")
        file.unlink()
        again = dataclasses.replace(
            study,
            measurement=lambda config: pytest.fail("a cell is measured again"),
            text=lambda report: (),
            figures=lambda report: {},
        )
        assert again.run(config, folder)["cells"] == report["cells"]
        return report, text

    return run


@pytest.fixture(scope="session")
def images():
    """Four batches of random images; the first is the test set, too."""
    rng = np.random.default_rng(0)
    pixels = jnp.asarray(rng.normal(size=(4, 8, 5)), jnp.float32)
    labels = jnp.asarray(rng.integers(10, size=(4, 8)))
    return Images((pixels, labels), (pixels[0], labels[0]), 10)
