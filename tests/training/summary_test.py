import dataclasses
import functools
import importlib.util
import re

import jax
import pytest
from optnet_jax.configs import digits_hb, imagenet_agd, table2

from optnet_jax import data, networks
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.inspect import tpu
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.recurrences import Anderson
from optnet_jax.training import summary


def test_the_network_has_the_datasets_images_and_classes():
    config = imagenet_agd.get_config()
    module, image_shape = summary.network(config)
    assert module.num_classes == 1000
    assert image_shape == (224, 224, 3)
    config.data.image_size = 160
    assert summary.network(config)[1] == (160, 160, 3)


def test_memory_is_that_of_a_micro_batch():
    config = digits_hb.get_config()
    whole = summary.summarize(config)
    config.optimizer.accumulate = 4
    micro = summary.summarize(config)
    title = whole.splitlines()[0]
    assert title.startswith(f"{config.name}: {config.model.name}(")
    assert title.endswith(" on optnet_digits")
    assert all(field in title for field in config.model if field != "name")
    assert re.findall(r"memory at batch (\d+)", whole) == ["64"]
    assert re.findall(r"memory at batch (\d+)", micro) == ["16"]


def test_a_config_without_a_network_is_named():
    with pytest.raises(InputError, match="table2 has no network to summarise"):
        summary.network(table2.get_config())


def tiny(**model):
    """Return a step that compiles in seconds: the digits' recipe on two layers."""
    config = digits_hb.get_config()
    config.model = {"name": "hb_net", "stage_sizes": (1,), "widths": (8,), **model}
    return config


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs the TPU's compiler"
)
def test_the_training_step_is_compiled_for_a_pod():
    """Groups of a chip's share need no chip but its own until the gradients' sum."""
    texts = [
        summary.on_topology(tiny(batch_norm_group=group), tpu.topology(name))
        for name, group in (("v5e:2x2", 16), ("v4:2x2x1", None))
    ]
    near, far = (int(re.findall(r"(\d+) all-reduce", text)[0]) for text in texts)
    assert 1 <= near < far
    for text in texts:
        assert "16 images a step on each" in text
        assert "it fits: 0.0" in text
        # 30 epochs of 22 steps of 64 images.
        assert "the run's 42,240 images take 0:00 or more" in text
    flops = [float(re.findall(r"([\d.e-]+) GFLOP", text)[0]) for text in texts]
    assert flops[1] == pytest.approx(flops[0], rel=0.2)


@pytest.mark.parametrize("known", [True, False], ids=["set", "folder"])
def test_a_step_that_augments_is_traced_without_data(monkeypatch, known):
    """A folder's mean and deviation are not known before it is prepared."""
    if not known:
        bare = dataclasses.replace(data.get_spec("optnet_digits"), mean=(), std=())
        monkeypatch.setitem(data.SPECS, "optnet_digits", bare)
    config = tiny()
    config.data.trivial_augment = True
    place = tpu.Topology("two", tpu.CHIPS["v5e"], tuple(jax.devices()[:2]), 2)
    experiment = summary.experiment_on(TrainConfig.of(config), place)
    assert "stablehlo" in experiment.lowered_train_step().as_text()


def test_a_batch_that_the_chips_do_not_divide():
    place = tpu.Topology("six", tpu.CHIPS["v5e"], tuple("abcdef"), 6)
    with pytest.raises(
        InputError, match=r"64 cannot be split over 6 device.*=60 or 66"
    ):
        summary.on_topology(digits_hb.get_config(), place)


def test_what_has_no_graph_is_not_drawn(tmp_path, capsys):
    config = digits_hb.get_config()
    config.model = {"name": "resnet20"}
    summary.show(config, tmp_path)
    assert "drawn: " in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            networks.NETWORKS, "mine", functools.partial(RecurrenceNet, Anderson())
        )
        config.model = {"name": "mine", "stage_sizes": (2,), "widths": (4,)}
        summary.show(config, tmp_path)
    assert "not drawn: a step of Anderson" in capsys.readouterr().out
