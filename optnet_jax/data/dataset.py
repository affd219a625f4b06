"""What a training loop sees of a dataset."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from optnet_jax.configuration import as_json
from optnet_jax.configuration.train import Data as Options
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.data.spec import Spec
from optnet_jax.errors import InputError


class Dataset(abc.ABC):
    """A dataset with its batches; every process sees its own share of them.

    A batch is a function of (seed, step) and of the batch size: a run that stops and
    goes on, be it on another number of processes, sees what it would have seen. Process
    p of P has rows [p B/P, (p+1) B/P) of each: ``local_batch_size`` from ``first_row``.

    Attributes:
        name: its name in the table of datasets.
        num_classes: number of classes.
        image_shape: (H, W, C) of an image in a batch.
        preprocessing: what evaluation makes of an image.
        num_train: images of the training split.
        num_eval: images of the split that is evaluated.
        batch_size: images of a step, over all processes together.
        local_batch_size: images of a step in this process.
        steps_per_epoch: whole batches in the training split; the images that are left
            over are others in every epoch.
        split: one line that says what is trained and evaluated on.
        version: of the prepared set.
        class_names: what the classes are called, in the order of their labels; their
            numbers where the set has no names.
        fingerprint: a digest of what the data is, wherever it lies: of a set in memory
            its images and labels, of a streamed one less, see
            :func:`~.features.fingerprint`.
    """

    def __init__(
        self,
        spec: Spec,
        options: Options,
        *,
        num_train: int,
        num_eval: int,
        version: str,
        fingerprint: str,
        class_names: Sequence[str] = (),
    ):
        batch_size, count = options.batch_size, jax.process_count()
        if batch_size % count:
            raise InputError(
                f"data.batch_size={batch_size} does not divide among {count} "
                f"processes; take a multiple of {count}"
            )
        if batch_size > num_train:
            raise InputError(
                f"data.batch_size={batch_size} is larger than the {num_train} training "
                f"images of {spec.name}; take a smaller one"
            )
        self.spec = spec
        self.preprocessing = Preprocessing.of(spec)
        self.options = options
        self.name = spec.name
        self.num_classes = spec.num_classes
        self.image_shape = spec.image_shape
        self.num_train = num_train
        self.num_eval = num_eval
        self.batch_size = batch_size
        self.local_batch_size = batch_size // count
        self.steps_per_epoch = num_train // batch_size
        self.first_row = jax.process_index() * self.local_batch_size
        self.split = (
            f"{spec.name} {version}: train {num_train}, {spec.eval_split} {num_eval} "
            f"({spec.note})"
        )
        self.version = version
        self.class_names = tuple(class_names) or tuple(
            str(label) for label in range(spec.num_classes)
        )
        self.fingerprint = fingerprint

    def description(self) -> dict[str, Any]:
        """Return what a run on this set says of it, in JSON's types."""
        described = {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "split": self.split,
            "read_from": self.spec.read_from(),
            "class_names": self.class_names,
            **self.treatment(),
            "num_train": self.num_train,
            "num_eval": self.num_eval,
        }
        return as_json(described)

    def treatment(self) -> dict[str, Any]:
        """Return what the Spec makes of the stored images, in JSON's types."""
        fields = {
            name: getattr(self.spec, name) for name in ("eval_split", "pad", "flip")
        }
        return as_json({**dataclasses.asdict(self.preprocessing), **fields})

    @abc.abstractmethod
    def train_batches(self, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """Yield this process's rows of the batches of step start_step and onwards.

        Args:
            start_step: the first step, counted from 0 over the whole run.

        Yields:
            ``image``: float32 [local_batch_size, H, W, C], normalised and, if the
            config says so, augmented; ``label``: int32 [local_batch_size].
        """

    @abc.abstractmethod
    def eval_batches(self) -> Iterator[dict[str, Any]]:
        """Yield this process's rows of the batches of the whole evaluation split.

        The number of batches is the same in every process.

        Yields:
            ``image`` and ``label`` as in training, without augmentation; ``mask``:
            float32 [local_batch_size], 1 for an image of the split and 0 for padding.
            Over all processes the masks sum to ``num_eval``.
        """
