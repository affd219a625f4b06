"""Training recipes: everything in a config but the network.

``digits``, ``fashion``, ``folder``, ``cifar`` and ``imagenet`` take a config's name,
its arguments (the text after the colon in
``--config=configs/cifar_agd.py:dataset=cifar100,depth=52``) and the defaults of those
that it adds to ``seed=0``. They return the config without its model block, and the
parsed arguments. Every field that there is, its default and its range are in
``optnet_jax/configuration/train.py``; here is what differs from dataset to dataset. Any
of them can be overridden on the command line.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TypeAlias

from ml_collections import ConfigDict

from optnet_jax.configuration import TrainConfig
from optnet_jax.configuration.overrides import from_text
from optnet_jax.configuration.train import Data
from optnet_jax.errors import InputError, did_you_mean

Arguments: TypeAlias = dict[str, Any]

# What a config takes after the colon; a recipe adds its own.
COMMON = {"seed": 0}


def parse(args: str, defaults: Arguments) -> Arguments:
    """Parse ``name=value,name=value``.

    Args:
        args: The text after the colon; empty for the defaults.
        defaults: The arguments that there are; a value's type is its default's.

    Returns:
        One value per argument.

    Raises:
        InputError: for an unknown argument, one that comes twice or without a value,
            or a value of another type.

    >>> parse("depth=52,augment=True", {"depth": 40, "augment": False, "seed": 0})
    {'depth': 52, 'augment': True, 'seed': 0}
    """
    values: Arguments = {}
    for item in filter(None, args.split(",")):
        name, equals, text = (part.strip() for part in item.partition("="))
        if name not in defaults:
            hint = did_you_mean(name, defaults)
            known = ", ".join(f"{key}={value}" for key, value in defaults.items())
            raise InputError(
                f"config argument {item!r} is unknown{hint}: the arguments are {known}"
            )
        if not equals:
            raise InputError(
                f"config argument {name} has no value: write {name}=VALUE, such as "
                f"{name}={defaults[name]}"
            )
        if name in values:
            raise InputError(f"config argument {name} comes twice: write it once")
        values[name] = from_text(text, type(defaults[name]), f"config argument {name}")
    return defaults | values


def choose(name: str, value: Any, choices: Mapping[Any, Any]) -> Any:
    """Look up an argument among its choices.

    Raises:
        InputError: listing the choices.
    """
    if value not in choices:
        known = ", ".join(map(str, choices))
        hint = did_you_mean(value, map(str, choices))
        raise InputError(
            f"config argument {name}={value} is unknown{hint}: choose {known}"
        )
    return choices[value]


def describe(stem: str, given: Arguments, defaults: Arguments) -> str:
    """Name of a run: the config's, and what differs from its defaults."""
    changed = [f"{k}={v}" for k, v in given.items() if v != defaults[k]]
    return "-".join([stem, *changed])


def study(stem: str, args: str, size: str = "quick") -> ConfigDict:
    """Return the config of a study, begun: ``name`` and ``experiment``.

    Args:
        stem: of the file of ``configs/``, and the name of the study.
        args: of the config: none, or ``size``.
        size: the only argument that the file takes, another size of the study.

    Raises:
        InputError: other arguments.
    """
    if args not in ("", size):
        raise InputError(
            f"configs/{stem}.py:{args} is unknown: the only argument is {size}"
        )
    config = ConfigDict()
    config.name = f"{stem}_{size}" if args else stem
    config.experiment = stem
    return config


def study_of_images(stem: str, args: str, batch_size: int) -> ConfigDict:
    """Return the config of a study on images: ``study``'s, and which images they are.

    Another set is chosen by ``--config.data.dataset``, or a folder of pictures as in a
    training run.
    """
    config = study(stem, args)
    config.seed = 0  # of the order of the images, and what else the study draws
    config.data = {**Data.defaults(), "batch_size": batch_size}
    config.parallel_cells = 1
    return config


def _begin(stem: str, args: str, own: Arguments) -> tuple[ConfigDict, Arguments]:
    """Return every field of a training config, with the paper's values, and ``args``.

    ``own`` are the defaults of its arguments but for ``COMMON``.
    """
    defaults = {**own, **COMMON}
    given = parse(args, defaults)
    fields = {**TrainConfig.defaults(), "seed": given["seed"]}
    return ConfigDict({"name": describe(stem, given, defaults), **fields}), given


def digits(
    stem: str, args: str, own: Arguments | None = None
) -> tuple[ConfigDict, Arguments]:
    """scikit-learn's 1,797 digits, in minutes on two cores: not from the paper."""
    config, given = _begin(stem, args, own or {})
    changes = {
        "data.dataset": "optnet_digits",
        "data.augment": True,
        "schedule.epochs": 30.0,
        "schedule.warmup_epochs": 1.0,
        # Compiling takes as long as training: it is worth more to keep the programs.
        "onednn": False,
    }
    config.update_from_flattened_dict(changes)
    return config, given


def fashion(
    stem: str, args: str, own: Arguments | None = None
) -> tuple[ConfigDict, Arguments]:
    """Fashion-MNIST by the recipe for CIFAR+ of §7.1, but for the number of epochs.

    12 epochs instead of 300: a run takes half an hour to an hour of one core. Batch,
    rate, drops at 50 and 75 %, weight decay and the crop from 4 padded pixels with
    flips are the paper's.
    """
    config, given = _begin(stem, args, own or {})
    changes = {
        "data.dataset": "fashion_mnist",
        "data.augment": True,
        "schedule.epochs": 12.0,
        "checkpoint.every_epochs": 1.0,
        "log.every_steps": 100,
    }
    config.update_from_flattened_dict(changes)
    return config, given


VISION_METHODS = {
    "transformer": {"name": "vit"},
    "hb": {"name": "vit", "recurrence": "hb", "splitting": "in_turn"},
    "nesterov": {"name": "vit", "recurrence": "agd", "splitting": "in_turn"},
    "yurii": {"name": "yurii_vit"},
    "triple": {"name": "yurii_vit", "learned": ("alpha", "beta", "gamma", "delta")},
}
"""Argument ``method`` of a vision transformer's config -> what its model block says."""


def vision(config: ConfigDict, method: str, **geometry: Any) -> None:
    """Give a config a vision transformer, and AdamW with a cosine to train it.

    A transformer does not train by the paper's SGD; what it takes instead are fields of
    every config.

    Args:
        config: Of a recipe.
        method: A key of :data:`VISION_METHODS`.
        **geometry: Fields of the network.
    """
    config.model = {**choose("method", method, VISION_METHODS), **geometry}
    changes = {
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.002,
        "optimizer.weight_decay": 0.05,
        "optimizer.clip_norm": 1.0,
        "schedule.decay": "cosine",
    }
    config.update_from_flattened_dict(changes)


def folder(stem: str, args: str) -> tuple[ConfigDict, Arguments]:
    """Pictures of your own, ``DIR/train/CLASS/*`` and ``DIR/test/CLASS/*``.

    The recipe for CIFAR+ of §7.1, shortened, with half the batch and a warm-up: of 200
    pictures an epoch has five steps.

    Its arguments are ``path=DIR`` and ``size=64``, the side of the network's input. A
    path with a comma in it is set with ``--config.data.folder`` instead.
    """
    own = {"path": "", "size": 64}
    config, given = _begin(stem, args, own)
    # Of the path its last part: the default workdir is called after the run.
    short = {**given, "path": PurePath(given["path"]).name}
    changes = {
        "name": describe(stem, short, {**own, **COMMON}),
        "data.dataset": "optnet_folder",
        "data.folder": given["path"],
        "data.image_size": given["size"],
        "data.augment": True,
        "data.batch_size": 32,
        "schedule.epochs": 60.0,
        "schedule.warmup_epochs": 3.0,
    }
    config.update_from_flattened_dict(changes)
    return config, given


def cifar(stem: str, args: str, *, depth: int) -> tuple[ConfigDict, Arguments]:
    """CIFAR-10 and CIFAR-100 of §7.1: 300 epochs of batch 64, drops at 50 and 75 %.

    Its arguments are the rows and columns of Table 4: ``dataset=cifar10`` (or
    ``cifar100``), ``augment=False`` and ``depth``, whose default is given.
    """
    own = {"dataset": "cifar10", "augment": False, "depth": depth}
    config, given = _begin(stem, args, own)
    names = {"cifar10": "cifar10", "cifar100": "cifar100"}
    changes = {
        "data.dataset": choose("dataset", given["dataset"], names),
        "data.augment": given["augment"],
        "log.every_steps": 100,
    }
    config.update_from_flattened_dict(changes)
    return config, given


def dense_dropout(given: Arguments) -> float:
    """Dropout of the dense family: 0.2 on CIFAR without augmentation (DenseNet's)."""
    return 0.0 if given["augment"] else 0.2


def imagenet(stem: str, args: str) -> tuple[ConfigDict, Arguments]:
    """ImageNet of §7.1: 100 epochs of batch 256, drops at epochs 30, 60 and 90.

    Its argument is ``augment=True``.
    """
    config, given = _begin(stem, args, {"augment": True})
    changes = {
        "data.dataset": "imagenet2012",
        "data.augment": given["augment"],
        "data.batch_size": 256,
        "schedule.epochs": 100.0,
        "schedule.drop_at": (0.3, 0.6, 0.9),
        "checkpoint.every_epochs": 1.0,
        "log.every_steps": 100,
    }
    config.update_from_flattened_dict(changes)
    return config, given
