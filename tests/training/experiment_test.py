import jax.numpy as jnp
import pytest

from optnet_jax import networks
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.training import evaluate, loop, summary
from optnet_jax.training import experiment as experiment_lib


def test_the_parts_follow_the_config(small):
    experiment = experiment_lib.build(TrainConfig.of(small.small_config()))
    assert experiment.total_steps == 16
    assert experiment.module == small.SmallNet(num_classes=10)
    assert experiment.rate(0) == pytest.approx(0.05)
    assert experiment.mesh.devices.size == 8


def test_network_fields_classes_and_precision_can_be_given(small):
    config = small.small_config(precision="bfloat16")
    config.model.features = 8
    assert experiment_lib.create_network(TrainConfig.of(config), 100).num_classes == 100
    config.model.num_classes = 7
    module = experiment_lib.create_network(TrainConfig.of(config), 100)
    assert module == small.SmallNet(7, features=8, dtype=jnp.bfloat16)


def test_a_network_without_a_precision_is_named_with_what_sets_it(small, monkeypatch):
    def noise(num_classes=10):
        return small.SmallNet(num_classes)

    monkeypatch.setitem(networks.NETWORKS, "noise", noise)
    config = small.small_config(precision="bfloat16")
    config.model = {"name": "noise"}
    match = "'noise' has no field 'dtype', which config.precision sets; it has num_cl"
    with pytest.raises(InputError, match=match):
        experiment_lib.create_network(TrainConfig.of(config), 10)


def test_shapes_are_those_of_the_state(small):
    experiment = experiment_lib.build(
        TrainConfig.of(small.small_config(**{"average.decay": 0.9}))
    )
    shapes, state = experiment.state_shapes(), experiment.init_state()
    leaves = zip(
        experiment_lib.jax.tree.leaves(shapes),
        experiment_lib.jax.tree.leaves(state),
        strict=True,
    )
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in leaves)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("data.batch_size", 12, "batch size 12 .*data.batch_size=8 or 16"),
        ("optimizer.accumulate", 4, r"4 micro-batch\(es\).*=32"),
        ("data.dataset", "mnits", "no dataset is called 'mnits'"),
        ("model.name", "smol", "unknown network 'smol'"),
        (
            "schedule.warmup_epochs",
            1e9,
            r"warmup_epochs=1e\+09 are 4,000,000,000 steps",
        ),
        ("model.num_classes", 5, "num_classes=5 is less than the 10 classes of optnet"),
        (
            "optimizer.decay_exclude",
            ("bais",),
            "choose from alpha, bias, kernel, scale",
        ),
        ("data.image_size", 32, "image_size=32 cannot be had of optnet_digits"),
        ("optimizer.name", "adamm", "did you mean 'adam'"),
        ("optimizer.name", "noisy_sgd", "PRNG key, which no checkpoint holds"),
    ],
)
@pytest.mark.filterwarnings("ignore:Specifying a key will be:UserWarning")
def test_bad_input(small, monkeypatch, field, value, match):
    config = small.small_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    if field != "schedule.warmup_epochs":
        # It is found before the data are prepared, which may take hours.
        monkeypatch.setattr(experiment_lib.data, "load", None)
    with pytest.raises(InputError, match=match):
        experiment_lib.build(TrainConfig.of(config))


def test_a_field_that_there_is_not_is_refused_from_python_too(small, tmp_path):
    """It would be recorded, and train what it does not say."""
    config = small.small_config()
    with config.unlocked():
        config.optimizer.kind = "adam"
    for begin in (
        lambda: experiment_lib.build(TrainConfig.of(config)),
        lambda: loop.train(config, tmp_path / "run"),
        lambda: evaluate.evaluate_checkpoint(config, tmp_path / "run"),
        lambda: summary.summarize(config),
    ):
        with pytest.raises(InputError, match="config.optimizer.kind: there is no such"):
            begin()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "count", "fits"),
    [
        ({"name": "resnet20"}, 1, True),
        ({"name": "resnet20"}, 2, False),
        ({"name": "resnet20", "batch_norm_group": 64}, 4, True),
        ({"name": "resnet20", "batch_norm_group": 64}, 8, False),
        ({"name": "agd_net40", "batch_norm_group": 256}, 2, False),
        ({"name": "vgg16"}, 4, True),
        ({"name": "vgg16", "batch_norm": True}, 4, False),
    ],
)
def test_a_micro_batch_holds_whole_groups_of_batch_normalisation(fields, count, fits):
    module = networks.create(**fields)
    if fits:
        experiment_lib.check_micro_batches(module, 256, count)
        return
    cure = f"--config.model.batch_norm_group={256 // count} "
    with pytest.raises(InputError, match=cure):
        experiment_lib.check_micro_batches(module, 256, count)
