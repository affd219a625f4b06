"""Configs: found, read, overridden and checked, before anything else is begun.

``load`` and ``main`` bring a config as an ml_collections.ConfigDict; where a run begins
it becomes frozen dataclasses (``TrainConfig.of(config)``, and a study's own), and only
they go further. Each field's kind, range and default stand in one place:
:mod:`.train` for training, ``config.py`` of each study.
"""

from optnet_jax.configuration.block import Block, as_json
from optnet_jax.configuration.command_line import (
    add_defaults,
    add_model_fields,
    check_fields,
    fields,
    overrides,
    settle_switches,
)
from optnet_jax.configuration.files import Config, find_file, load, packaged_configs
from optnet_jax.configuration.kinds import convert, local_path, one_line
from optnet_jax.configuration.train import TrainConfig

__all__ = [
    "Block",
    "Config",
    "TrainConfig",
    "add_defaults",
    "add_model_fields",
    "as_json",
    "check_fields",
    "convert",
    "fields",
    "find_file",
    "load",
    "local_path",
    "one_line",
    "overrides",
    "packaged_configs",
    "settle_switches",
]
