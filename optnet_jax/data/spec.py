"""What there is to know about each dataset, in one table: a new one is one entry."""

import dataclasses
from collections.abc import Iterator

from optnet_jax.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class Spec:
    """A dataset, described.

    Attributes:
        name: its TFDS name.
        num_classes: number of classes.
        image_shape: (H, W, C) of what the network sees.
        mean: mean of the training split per channel, pixels scaled to [0, 1].
        std: standard deviation, likewise.
        eval_split: the TFDS split that is evaluated.
        pad: pixels of zeros on each side before the random crop of ``image_shape``,
            with augmentation. The zeros are put around the *normalised* image, where
            0 is the mean colour, as in the authors' code of DenseNet (and in the order
            in which §7.1 tells it).
        flip: whether augmentation mirrors half of the images.
        streamed: whether the set is too large for memory and read from disk.
        resize: short side of an image before the central crop of ``image_shape`` that
            is evaluated; streamed sets only. 0 is the side of ``image_shape``: nothing
            of the short side is cut off.
        manual: whether a person must fetch the archives.
        module: module to import so that TFDS knows the builder; empty for TFDS's own.
        note: how the split was made.

    Raises:
        InputError: if the fields do not fit together.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eval_split: str = "test"
    pad: int = 0
    flip: bool = False
    streamed: bool = False
    resize: int = 0
    manual: bool = False
    module: str = ""
    note: str = "the published split"

    def __post_init__(self) -> None:
        for field in ("image_shape", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for fault in self._faults():
            raise InputError(f"the Spec of {self.name!r} is wrong: {fault}")

    def _faults(self) -> Iterator[str]:
        shape = self.image_shape
        if not _whole(1, self.num_classes):
            yield f"num_classes={self.num_classes!r} must be a whole number from 1 on"
        if len(shape) != 3 or not _whole(1, *shape):
            yield f"image_shape={shape} must be (height, width, channels)"
        for field in ("mean", "std"):
            values = getattr(self, field)
            if len(values) != shape[2]:
                yield (
                    f"{field}={values} must be one number for each of the {shape[2]} "
                    "channels of image_shape"
                )
            if not all(0 <= value <= 1 for value in values):
                yield f"{field}={values} must be in [0, 1], as the pixels are"
        if 0 in self.std:
            yield f"std={self.std} must be positive"
        if not _whole(0, self.pad, self.resize):
            yield f"pad={self.pad!r} and resize={self.resize!r} must be whole numbers"
        if not self.streamed:
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

    def with_image_size(self, size: int) -> "Spec":
        """The same dataset, resized and cropped to another size in proportion."""
        return dataclasses.replace(
            self,
            image_shape=(size, size, self.image_shape[2]),
            resize=round(self.resize * size / self.image_shape[0]),
        )


def _whole(least: int, *values: object) -> bool:
    """Whether all are whole numbers that are at least ``least``."""
    return all(isinstance(value, int) and value >= least for value in values)


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
        ),
        Spec(
            name="cifar10",
            num_classes=10,
            image_shape=(32, 32, 3),
            mean=(0.49139968, 0.48215841, 0.44653091),
            std=(0.24703223, 0.24348513, 0.26158784),
            pad=4,
            flip=True,
        ),
        Spec(
            name="cifar100",
            num_classes=100,
            image_shape=(32, 32, 3),
            mean=(0.50707516, 0.48654887, 0.44091784),
            std=(0.26733429, 0.25643846, 0.27615047),
            pad=4,
            flip=True,
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
        ),
    )
}


def get_spec(name: str) -> Spec:
    """Returns the entry called ``name``.

    Raises:
        InputError: if there is none.
    """
    if not isinstance(name, str) or name not in SPECS:
        known = ", ".join(SPECS)
        raise InputError(f"no dataset is called {shown(name)}; there are {known}")
    return SPECS[name]
