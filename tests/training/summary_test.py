import re

import pytest
from optnet_jax.configs import digits_hb, imagenet_agd, table2

from optnet_jax.errors import InputError
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
