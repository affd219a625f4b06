import jax
import pytest

from optnet_jax.benchmarks import tpu
from optnet_jax.errors import InputError
from optnet_jax.networks import create


def shapes(network):
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    return sorted(leaf.shape for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ["resnet34", "densenet121"])
def test_plain_networks_are_ours_in_other_layers(name):
    ours, theirs = create(name, num_classes=1000), tpu.PLAIN[f"plain_{name}"]()
    assert shapes(theirs) == shapes(ours)


@pytest.fixture
def experiments(monkeypatch):
    """The runs whose steps are compiled, by what stands in for the compiler.

    It is the one part that is not asked here: inspect/tpu_test.py does.
    """
    place = tpu.tpu.Topology(
        "v5e:2x2", tpu.tpu.CHIPS["v5e"], tuple(jax.devices()[:4]), 4
    )
    program = tpu.tpu.Program(
        7, True, 2**30, 2**34, 8e9, 4e9, 2e9, collectives={"all-reduce": 2}
    )
    experiments = []

    def lowered(experiment):
        experiments.append(experiment)

    monkeypatch.setattr(tpu.tpu, "topology", lambda name: place)
    monkeypatch.setattr(tpu.tpu, "version", lambda: "a compiler")
    monkeypatch.setattr(tpu.tpu, "compile_for", lambda *_: program)
    experiment = tpu.experiment_on.__globals__["experiment_lib"].Experiment
    monkeypatch.setattr(experiment, "lowered_train_step", lowered)
    return experiments


def test_networks_without_batch_norm_have_no_groups(options, experiments):
    cases = ",".join(f"{name}:8@v5e:2x2" for name in ("vit_tiny16", "lenet5", "vgg16"))
    rows = tpu.SUITE.run(options(tpu.SUITE, f"--cases={cases}"))
    assert [row["case"] for row in rows] == ["vit_tiny16", "lenet5", "vgg16"]


def test_groups_that_do_not_divide_a_batch_are_refused(options, experiments):
    cases = "plain_resnet34:96@v5e:2x2,resnet34:96@v5e:2x2"
    fault = "resnet34:96 has no whole BatchNorm groups of --group=64 images: give a"
    with pytest.raises(InputError, match=f"^{fault}"):
        tpu.SUITE.run(options(tpu.SUITE, f"--cases={cases}"))
    assert len(experiments) == 1  # linen's own takes the whole batch
    tpu.SUITE.run(options(tpu.SUITE, f"--cases={cases}", "--group=48"))


def test_a_row_is_of_the_recipes_step(options, experiments):
    cases = "plain_resnet34:256@v5e:2x2,hb_net34:256@v5e:2x2"
    rows = tpu.SUITE.run(options(tpu.SUITE, f"--cases={cases}", "--group=32"))
    assert [row["case"] for row in rows] == ["plain_resnet34", "hb_net34"]
    assert {row["traffic"] for row in rows} == {4e9 * 4 / 256}
    assert {row["hbm"] for row in rows} == {2e9 * 4 / 256}
    assert {row["rate"] for row in rows} == {64 / (2e9 / 819e9)}
    assert {row["bound"] for row in rows} == {"traffic with HBM"}
    theirs, ours = (experiment.module for experiment in experiments)
    assert isinstance(theirs, tpu.PlainResNet)
    assert ours.batch_norm_group == 32
    assert {theirs.dtype, ours.dtype} == {jax.numpy.bfloat16}
    assert tpu.SUITE.markdown([rows[0], {**rows[1], "fits": "no"}]).count("\n") == 3
