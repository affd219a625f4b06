"""Configs: found, read, overridden and checked, before anything else is begun.

``load`` and ``main`` bring a config as an ml_collections.ConfigDict; where a run begins
it becomes frozen dataclasses (``TrainConfig.of(config)``, and a study's own), and only
they go further. Each field's kind, range and default stand in one place:
:mod:`.train` for training, the module of a study for its own.
"""

from optnet_jax.configuration.block import Block, as_json
from optnet_jax.configuration.files import Config, find_file, load, packaged_configs
from optnet_jax.configuration.overrides import fields
from optnet_jax.configuration.train import TrainConfig
from optnet_jax.kinds import convert, local_path

__all__ = [
    "Block",
    "Config",
    "TrainConfig",
    "as_json",
    "convert",
    "fields",
    "find_file",
    "load",
    "local_path",
    "packaged_configs",
]
