"""What evaluation makes of one image: the middle of it, resized, then normalised.

Training's pipelines and whoever uses a trained network take the numbers from here. This
module needs NumPy and Pillow alone; a streamed set cuts the same window and resizes by
the same filter in ``tf.data``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np

from optnet_jax.configuration.block import kinds_of
from optnet_jax.configuration.train import Count, CountOrOff
from optnet_jax.errors import InputError
from optnet_jax.kinds import Range, convert

Mean = Annotated[float, Range(least=0, most=1, meaning="as the pixels are")]
Std = Annotated[float, Range(above=0, most=1, meaning="as the pixels are")]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a data set's evaluation.

    Attributes:
        image_shape: (H, W, C) of what the network sees.
        mean: Mean of the training split per channel, pixels scaled to [0, 1].
        std: Standard deviation, likewise.
        resize: Short side of an image before its middle of ``image_shape`` is cut out;
            0 is the side of ``image_shape``: nothing of the short side is cut off.

    Raises:
        InputError: if a field is wrong.
    """

    image_shape: tuple[Count, Count, Count]
    mean: tuple[Mean, ...]
    std: tuple[Std, ...]
    resize: CountOrOff = 0

    def __post_init__(self) -> None:
        for field, kind in kinds_of(Preprocessing).items():
            value = convert(getattr(self, field), kind, field)
            object.__setattr__(self, field, value)
        for field in ("mean", "std"):
            if len(getattr(self, field)) != self.image_shape[2]:
                raise InputError(
                    f"{field} must be one number for each of the "
                    f"{self.image_shape[2]} channels of image_shape"
                )

    @classmethod
    def of(cls, source: Any) -> Self:
        """Return that of a :class:`~.spec.Spec`, or of what a run has written of it.

        Args:
            source: An object with these fields, or a mapping, in which ``resize`` may
                be missing.

        Raises:
            InputError: if a field is missing or wrong.
        """
        if not isinstance(source, Mapping):
            source = {name: getattr(source, name) for name in kinds_of(cls)}
        source = {"resize": 0, **source}
        lacking = [name for name in kinds_of(cls) if name not in source]
        if lacking:
            raise InputError(f"it lacks {', '.join(lacking)}")
        return cls(**{name: source[name] for name in kinds_of(cls)})

    @property
    def share(self) -> float:
        """Side of the middle that is seen, in units of the short side."""
        return self.image_shape[0] / (self.resize or self.image_shape[0])

    @property
    def scale(self) -> np.ndarray:
        """Factor of :meth:`normalise`, float32 [1, 1, 1, C]."""
        return 1 / (255 * self._channels(self.std))

    @property
    def shift(self) -> np.ndarray:
        """Summand of :meth:`normalise`, float32 [1, 1, 1, C]."""
        return -self._channels(self.mean) / self._channels(self.std)

    def normalise(self, pixels: Any) -> Any:
        """Return pixels as the network sees them: one multiply-add for each.

        Args:
            pixels: floats [B, H, W, C], 0 to 255, of NumPy, JAX or TensorFlow.
        """
        return pixels * self.scale + self.shift

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the part of an image that is seen: (top, left, height, width).

        It is the largest in the middle that has the sides of ``image_shape`` in
        proportion, times :attr:`share`.
        """
        shape = self.image_shape[:2]
        long = max(shape)
        short = min(height * long / shape[0], width * long / shape[1])
        side = float(np.float32(self.share) * np.float32(short))
        rows, columns = (max(round(side * part / long), 1) for part in shape)
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def fit(self, pixels: np.ndarray) -> np.ndarray:
        """Cut the middle out of an image and resize it, by a triangle filter.

        Args:
            pixels: uint8 [H, W, C], of any size.

        Returns:
            uint8 of ``image_shape``.
        """
        from PIL import Image

        top, left, height, width = self.window(*pixels.shape[:2])
        seen = pixels[top : top + height, left : left + width]
        rows, columns, channels = self.image_shape
        if seen.shape[:2] == (rows, columns):
            return seen
        # In float32, as tf.image.resize computes: Pillow rounds bytes twice.
        resized = [
            np.asarray(
                Image.fromarray(seen[..., c].astype(np.float32)).resize(
                    (columns, rows), Image.Resampling.BILINEAR
                )
            )
            for c in range(channels)
        ]
        return np.round(np.stack(resized, -1)).clip(0, 255).astype(np.uint8)

    @staticmethod
    def _channels(values: tuple[float, ...]) -> np.ndarray:
        return np.asarray(values, np.float32).reshape(1, 1, 1, -1)
