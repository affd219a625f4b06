"""A trained network with all that using it takes: variables, preprocessing, names."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax import data
from optnet_jax.configuration import TrainConfig, convert, local_path
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError, shown
from optnet_jax.inference import images as images_lib
from optnet_jax.inference.features import iterates_and_layers
from optnet_jax.inference.predictions import Predictions
from optnet_jax.runs import files
from optnet_jax.runs.progress import say
from optnet_jax.training import sharding
from optnet_jax.training.experiment import create_network
from optnet_jax.training.leaves import (
    Leaves,
    check_same_network,
    flatten,
    unflatten,
)
from optnet_jax.training.warm_start import read_variables
from optnet_jax.training.workdir import check_kinds, read_json
from optnet_jax.weights import state_dict

RELEASED = Path(__file__).parent / "released"
"""Where the networks lie that the package brings: exported, each with its card."""

BATCH = 64
"""Images that are run at a time at most."""
CURE = "give write permission or make room, or use a copy in another place"
"""What helps where nothing can be written into the workdir of a run."""


class Trained:
    """A trained network that is ready to be used.

    Args:
        config: What it was trained with.
        dataset: What ``dataset.json`` says of its data set; a set of this package can
            do without, and then has numbers for names.
        leaves: Its variables by name, as evaluation takes them.
        step: The step that they are of.
        where: What they were read from, for messages.
        card: What came with a network that was exported.

    Attributes:
        network: The linen module.
        variables: ``params`` and ``batch_stats``: their moving average if the run
            evaluates with one.
        preprocessing: What the data set's evaluation makes of an image.
        class_names: What the classes are called, in the order of their labels.
        config, dataset, step, card: As given; the config is checked.

    Raises:
        InputError: if these do not fit together.
    """

    def __init__(
        self,
        config: Any,
        dataset: Mapping[str, Any] | None,
        leaves: Leaves,
        step: int,
        where: object,
        card: Mapping[str, Any] | None = None,
    ):
        self.config = TrainConfig.of(config)
        self.step, self.card = step, card
        self.dataset = dict(dataset or _known(self.config, where))
        try:
            self.preprocessing = Preprocessing.of(_with_resize(self.dataset))
            names = self.dataset["class_names"]
            names = convert(names, tuple[str, ...], "class_names")
        except (InputError, KeyError, TypeError) as error:
            raise InputError(
                f"what {where} says of its data set is damaged ({error}): copy the "
                "workdir again"
            ) from error
        self.network: nn.Module = create_network(self.config, len(names))
        outputs = getattr(self.network, "num_classes", len(names))
        self.class_names = (*names, *map(str, range(len(names), outputs)))
        image = jnp.zeros((1, *self.preprocessing.image_shape))
        shapes = dict(jax.eval_shape(self.network.init, jax.random.key(0), image))
        check_same_network(
            leaves,
            flatten(shapes),
            where,
            cure="use the version of optnet_jax that it was trained with, and what it "
            f"said of its data set: {len(names)} classes here",
        )
        self.variables: dict[str, Any] = unflatten(shapes, leaves)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle holds: all but compiled programs."""
        programs = ("_probabilities", "_features")
        return {name: v for name, v in self.__dict__.items() if name not in programs}

    def predict(self, images: Any) -> Predictions:
        """Classify images.

        Args:
            images: One image or several: paths of files or folders, images of Pillow,
                or arrays [H, W], [H, W, C] or a batch of them, whole numbers 0 to 255
                or floats 0 to 1; or a list of these, of different sizes. They are cut
                and resized as the data set's evaluation does it.

        Returns:
            Names and probabilities, in the order of the images.

        Raises:
            InputError: naming the image that cannot be read or be made into one of the
                data set's.
        """
        return self.classified(*self.read(images))

    def classified(self, names: tuple[str, ...], pixels: np.ndarray) -> Predictions:
        """Classify what :meth:`read` returns, which is neither cut nor resized again.

        Args:
            names: What the images are called.
            pixels: uint8 [N, H, W, C] of the data set's shape.
        """
        probabilities = self._in_batches(self._probabilities, pixels)
        return Predictions(names, self.class_names, probabilities)

    def features(self, images: Any) -> dict[str, np.ndarray]:
        """Return what the layers make of images.

        Args:
            images: As of :meth:`predict`.

        Returns:
            Arrays [N, ...] by name, in the order in which they are computed; see
            :func:`.iterates_and_layers`.

        Raises:
            InputError: likewise.
        """
        layers = self._in_batches(self._features, self.read(images)[1])
        return {name: value for layer in layers for name, value in layer.items()}

    def read(self, images: Any) -> tuple[tuple[str, ...], np.ndarray]:
        """Read images as evaluation has them before they are normalised.

        Args:
            images: As of :meth:`predict`.

        Returns:
            What each is called, and uint8 [N, H, W, C] of the data set's shape.

        Raises:
            InputError: likewise.
        """
        channels = self.preprocessing.image_shape[2]
        sources = images_lib.sources(images, channels)
        rows = [images_lib.read(source, self.preprocessing) for source in sources]
        return tuple(source.name for source in sources), np.stack(rows)

    def normalised(self, images: jax.Array) -> jax.Array:
        """Return images of the data set's shape as the network sees them.

        Args:
            images: [B, H, W, C], 0 to 255.
        """
        return self.preprocessing.normalise(images.astype(jnp.float32))

    def probabilities(self, variables: Any, images: jax.Array) -> jax.Array:
        """Return the softmax of the logits, float32 [B, number of classes].

        Args:
            variables: Of the network.
            images: [B, H, W, C], 0 to 255.
        """
        logits: Any = self.network.apply(variables, self.normalised(images))
        return jax.nn.softmax(logits)

    @functools.cached_property
    def _probabilities(self) -> Any:
        return jax.jit(self.probabilities)

    @functools.cached_property
    def _features(self) -> Any:
        def features(variables: Any, images: jax.Array) -> list[dict[str, jax.Array]]:
            seen = self.normalised(images)
            found = iterates_and_layers(self.network, variables, seen)
            # One dict that leaves jit would be in the order of its names.
            return [{name: value} for name, value in found.items()]

        return jax.jit(features)

    def _in_batches(self, function: Any, images: np.ndarray) -> Any:
        """Run a function of (variables, images) on a few images at a time."""
        # A power of two: another number of images seldom compiles another program.
        size = min(BATCH, 1 << (len(images) - 1).bit_length())
        found = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            padding = [(0, size - len(batch)), *[(0, 0)] * 3]
            output = function(self.variables, np.pad(batch, padding))
            found.append(jax.device_get(output))
        count = len(images)
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)


def load_run(workdir: str | Path, checkpoint: str | int = "last") -> Trained:
    """Load a trained network from the workdir of its run.

    The workdir may have been copied or moved, may be one that can only be read, and may
    come from another number of devices. Neither the data set nor TensorFlow is needed.

    Args:
        workdir: Directory of the run; or, if no run is there, the name of a network
            that the package brings, see :func:`released`; or a file ``.safetensors``
            that was exported, beside its card.
        checkpoint: ``last``, ``best`` (of lowest top-1 error) or a step; what was
            exported has one.

    Returns:
        The network with its variables.

    Raises:
        InputError: if there is no such workdir or checkpoint, or if it is damaged.

    >>> import optnet_jax
    >>> run = optnet_jax.load_run("runs/digits_agd")  # doctest: +SKIP
    >>> run.predict("photos").names  # doctest: +SKIP
    """
    path = local_path(workdir, "workdir").absolute()
    if str(workdir) in released():
        # What is written there of a released network makes no run of the folder.
        ours = (path / "checkpoints", path / "config.json")
        if not any(map(files.exists, ours)):
            path = RELEASED / f"{workdir}.safetensors"
        else:
            say(f"{workdir} is read from {path}, which has a released network's name")
    if path.suffix == ".safetensors":
        return _load_exported(path, str(checkpoint))
    if not files.is_folder(path / "checkpoints"):
        for folder in path.parents:
            if files.is_folder(folder / "checkpoints"):
                raise InputError(f"{path} is no workdir: name {folder}, in which it is")
    if not files.is_folder(path):
        raise InputError(
            f"there is no workdir {path}, and no released network of that name; those "
            f"are {', '.join(released()) or 'none'}"
        )
    check_kinds(path)
    where = sharding.replicated(sharding.data_mesh(jax.local_devices()[:1]))
    step, leaves, config = read_variables(path, str(checkpoint), where)
    if config is None:
        raise InputError(
            f"{path} does not say which network it is of: copy its config.json, too"
        )
    return Trained(config, read_json(path / "dataset.json"), leaves, step, path)


def released() -> dict[str, dict[str, Any]]:
    """Return the cards of the trained networks that the package brings, by name."""
    return {
        file.stem: read_json(file) or {} for file in sorted(RELEASED.glob("*.json"))
    }


def _load_exported(file: Path, checkpoint: str) -> Trained:
    leaves = flatten(state_dict.load_variables(file))
    card = read_json(file.with_suffix(".json"))
    if card is None:
        raise InputError(f"{file} has no card: put the .json that came with it there")
    try:
        step = convert(card.get("step"), int, "step")
        dataset = convert(card.get("dataset"), dict, "dataset")
    except InputError as error:
        raise InputError(
            f"the card of {file} is damaged ({error}): export it anew"
        ) from error
    if checkpoint not in ("last", str(step)):
        raise InputError(f"{file} holds step {step} alone, not {checkpoint!r}")
    return Trained(card.get("config"), dataset, leaves, step, file, card)


def _known(config: TrainConfig, where: object) -> dict[str, Any]:
    """Return what this package knows of a data set that a run says nothing of."""
    if config.data.dataset not in data.SPECS:
        raise InputError(
            f"{where} lacks dataset.json, and no data set is called "
            f"{shown(config.data.dataset)} here: copy that file, too"
        )
    spec = data.spec_of(config.data)
    names = [str(label) for label in range(spec.num_classes)]
    return {**dataclasses.asdict(Preprocessing.of(spec)), "class_names": names}


def _with_resize(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Add what runs of earlier versions left unsaid, where this package knows it."""
    spec = data.SPECS.get(str(dataset.get("name")))
    if "resize" in dataset or spec is None or not spec.resize:
        return dict(dataset)
    return {"resize": spec.with_image_size(dataset["image_shape"][0]).resize, **dataset}
