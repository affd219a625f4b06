"""What there is to know about each dataset, in one table: a new one is one entry."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optnet_jax.configuration.block import kinds_of
from optnet_jax.configuration.train import Count, CountOrOff
from optnet_jax.data import origins
from optnet_jax.data.preprocessing import Mean, Std
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import LocalPath, convert

FOLDER = "optnet_folder"
"""Name of a data set that a folder of pictures is; see :mod:`.folder`."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A dataset, described.

    Attributes:
        name: its TFDS name.
        num_classes: number of classes.
        image_shape, mean, std: see :class:`.Preprocessing`; the latter two are empty
            where the builder has measured them and put them into its metadata.
        eval_split: the TFDS split that is evaluated.
        pad: pixels of zeros on each side before the random crop of ``image_shape``,
            with augmentation. The zeros are put around the *normalised* image, where
            0 is the mean colour, as in the authors' code of DenseNet (and in the order
            in which §7.1 tells it).
        flip: whether augmentation mirrors half of the images.
        streamed: whether the set is too large for memory and read from disk.
        resize: see :class:`.Preprocessing`; streamed sets only.
        manual: whether a person must fetch the archives.
        package: a Debian package that has them, for the message that they are missing.
        module: module to import so that TFDS knows the builder; empty for TFDS's own.
        builder_config: of a builder that has several configs: the fields of its class
            ``CONFIG``, or ``{"name": ...}``, one of its ``BUILDER_CONFIGS``.
        sources: files and folders that the builder reads: once they have changed, a
            set that was prepared from them before is said to be out of date.
        note: how the split was made.
        num_train: images of the training split, where that is known without the data;
            0: it is not. What is trained on is what the prepared set has.

    Raises:
        InputError: if a field is wrong, or if they do not fit together.
    """

    name: str
    num_classes: Count
    image_shape: tuple[Count, Count, Count]
    mean: tuple[Mean, ...]
    std: tuple[Std, ...]
    eval_split: str = "test"
    pad: CountOrOff = 0
    flip: bool = False
    streamed: bool = False
    resize: CountOrOff = 0
    manual: bool = False
    package: str = ""
    module: str = ""
    builder_config: Mapping[str, Any] | None = None
    sources: tuple[LocalPath, ...] = ()
    note: str = "the published split"
    num_train: CountOrOff = 0

    def __post_init__(self) -> None:
        where = f"the Spec of {shown(self.name)} is wrong: "
        for field, kind in kinds_of(Spec).items():
            value = convert(getattr(self, field), kind, f"{where}{field}")
            object.__setattr__(self, field, value)
        for fault in self._misfits():
            raise InputError(where + fault)

    def _misfits(self) -> Iterator[str]:
        shape = self.image_shape
        for field in ("mean", "std"):
            values = getattr(self, field)
            if values and len(values) != shape[2]:
                yield (
                    f"{field}={values} must be one number for each of the {shape[2]} "
                    "channels of image_shape"
                )
        if not self.streamed:
            if self.resize:
                yield (
                    f"resize={self.resize} has no use where a set is not streamed: its "
                    "images have the size of image_shape; leave it 0"
                )
            return
        if shape[0] != shape[1]:
            yield f"image_shape={shape} of a streamed set must be square"
        if 0 < self.resize < shape[0]:
            yield f"resize={self.resize} is less than the side of image_shape={shape}"
        if self.pad:
            yield (
                f"pad={self.pad} has no use in a streamed set, which is cropped as "
                "config.data.crop says; leave it 0"
            )

    def read_from(self) -> dict[str, Any]:
        """Return the state of what the set is read from, where it may change.

        No file is opened. A folder of pictures has the name of its config, a digest.
        """
        state = origins.state({f"{i}": Path(p) for i, p in enumerate(self.sources)})
        if self.name == FOLDER and self.builder_config:
            state["pictures"] = self.builder_config["name"]
        return state

    def with_image_size(self, size: int) -> "Spec":
        """Return the same dataset at another size: resize and crop in proportion."""
        return dataclasses.replace(
            self,
            image_shape=(size, size, self.image_shape[2]),
            resize=round(self.resize * size / self.image_shape[0]),
        )


SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        Spec(
            name="optnet_digits",
            num_classes=10,
            image_shape=(8, 8, 1),
            mean=(0.30543369,),
            std=(0.37595716,),
            pad=1,
            module="optnet_jax.data.digits",
            note="stratified, split seed 0",
            num_train=1437,
        ),
        Spec(
            name="cifar10",
            num_classes=10,
            image_shape=(32, 32, 3),
            mean=(0.49139968, 0.48215841, 0.44653091),
            std=(0.24703223, 0.24348513, 0.26158784),
            pad=4,
            flip=True,
            num_train=50_000,
        ),
        Spec(
            name="cifar100",
            num_classes=100,
            image_shape=(32, 32, 3),
            mean=(0.50707516, 0.48654887, 0.44091784),
            std=(0.26733429, 0.25643846, 0.27615047),
            pad=4,
            flip=True,
            num_train=50_000,
        ),
        Spec(
            name="fashion_mnist",
            num_classes=10,
            image_shape=(28, 28, 1),
            mean=(0.28604059,),
            std=(0.35302424,),
            pad=4,
            flip=True,
            package="dataset-fashion-mnist",
            num_train=60_000,
        ),
        Spec(
            name="mnist",
            num_classes=10,
            image_shape=(28, 28, 1),
            mean=(0.13066048,),
            std=(0.30810781,),
            pad=2,
            num_train=60_000,
        ),
        Spec(
            name="imagenet2012",
            num_classes=1000,
            image_shape=(224, 224, 3),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            eval_split="validation",
            flip=True,
            streamed=True,
            resize=256,
            manual=True,
            num_train=1_281_167,
        ),
    )
}


def get_spec(name: str) -> Spec:
    """Return the entry called ``name``.

    Raises:
        InputError: if there is none.
    """
    if not isinstance(name, str) or name not in SPECS:
        if name == FOLDER:
            raise InputError(
                f"{FOLDER} is prepared by a run, with --config.data.folder"
            )
        known = ", ".join([*SPECS, FOLDER])
        raise InputError(f"no dataset is called {shown(name)}; there are {known}")
    return SPECS[name]
