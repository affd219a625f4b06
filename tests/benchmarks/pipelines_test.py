from optnet_jax.benchmarks import pipelines


def test_inputs_are_put_beside_training(monkeypatch, options):
    found = options(
        pipelines.SUITE, "--batch=2", "--batches=1", "--jpegs=4", "--repeats=1"
    )
    assert found.inputs == tuple(pipelines.INPUTS)
    inputs = {
        "cifar_augmented": ("cifar10", "lenet5", 20),
        "stream": ("imagenet2012", "lenet5", 0),
    }
    monkeypatch.setattr(pipelines, "INPUTS", inputs)
    monkeypatch.setattr(pipelines, "PHOTOGRAPH", (40, 48, 3))
    found.inputs = tuple(inputs)
    rows = pipelines.SUITE.run(found)
    assert [row["case"] for row in rows] == ["cifar_augmented", "stream"]
    assert all(row["images"]["median"] > 0 for row in rows)
    lines = pipelines.SUITE.markdown(rows).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("| stream ")


def test_a_photograph_is_as_large_as_an_average_one(monkeypatch, tmp_path):
    monkeypatch.setattr(pipelines, "DISTINCT", 1)
    builder = pipelines.jpegs(str(tmp_path), 2)
    split = builder.info.splits["train"]
    assert 2 * 100_000 < split.num_bytes < 2 * 140_000
