"""Small datasets: uint8 on the device, shuffled, cropped and flipped there.

The batch of step t is a function of (seed, t) and of nothing else: with
e = t // steps_per_epoch, its rows are a slice of ``permutation(fold_in(seed, e))``, and
the augmentation of row r is drawn from ``fold_in(fold_in(seed, t), r)``. So the global
batch does not depend on the number of processes, each of which makes its own rows only.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.configuration.train import Data as Options
from optnet_jax.data.arrays import Split, checked, fingerprint
from optnet_jax.data.dataset import Dataset
from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.data.spec import Spec

Batch = dict[str, jax.Array]


class MemoryDataset(Dataset):
    """A dataset that fits into the memory of the device.

    Raises:
        InputError: if the splits are not what the entry says, naming value and place.
    """

    def __init__(
        self,
        spec: Spec,
        options: Options,
        train: Split,
        evaluation: Split,
        *,
        seed: int,
        version: str,
        class_names: Sequence[str] = (),
    ):
        train = checked(spec, "train", train)
        evaluation = checked(spec, spec.eval_split, evaluation)
        super().__init__(
            spec,
            options,
            num_train=len(train.labels),
            num_eval=len(evaluation.labels),
            version=version,
            fingerprint=fingerprint(train, evaluation),
            class_names=class_names,
        )
        # Left uncommitted, so that a batch may be moved to any mesh.
        self._train = jax.tree.map(jnp.asarray, train)
        self._evaluation = jax.tree.map(jnp.asarray, evaluation)
        self._order_key, self._augment_key = jax.random.split(jax.random.key(seed))

    def train_batches(self, start_step: int = 0) -> Iterator[Batch]:
        """See :meth:`Dataset.train_batches`."""
        spec, augment = self.spec, self.options.augment
        epoch, order = -1, None
        for step in itertools.count(start_step):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = _permutation(self._order_key, epoch, self.num_train)
            start = step % self.steps_per_epoch * self.batch_size + self.first_row
            batch = self._take(self._train, order, start)
            if augment:
                rows = self.first_row + np.arange(self.local_batch_size)
                batch["image"] = _augment(
                    self._augment_key,
                    step,
                    rows,
                    batch["image"],
                    pad=spec.pad,
                    flip=spec.flip,
                )
            yield batch

    def eval_batches(self) -> Iterator[Batch]:
        """See :meth:`Dataset.eval_batches`."""
        batches = -(-self.num_eval // self.batch_size)
        # The padding repeats the last image; its mask is 0.
        rows = np.arange(batches * self.batch_size, dtype=np.int32)
        order = jnp.asarray(np.minimum(rows, self.num_eval - 1))
        for start in range(self.first_row, len(rows), self.batch_size):
            mine = slice(start, start + self.local_batch_size)
            batch = self._take(self._evaluation, order, start)
            yield batch | {"mask": np.float32(rows[mine] < self.num_eval)}

    def _take(self, split: Split, order: Any, start: int) -> Any:
        return _take(
            split,
            order,
            np.int32(start),
            rows=self.local_batch_size,
            preprocessing=self.preprocessing,
        )


@functools.partial(jax.jit, static_argnames="size")
def _permutation(key: jax.Array, epoch: int, size: int) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(key, epoch), size)


@functools.partial(jax.jit, static_argnames=("rows", "preprocessing"))
def _take(
    split: Split, order, start, *, rows: int, preprocessing: Preprocessing
) -> Batch:
    chosen = jax.lax.dynamic_slice(order, (start,), (rows,))
    images = jnp.take(jnp.asarray(split.images), chosen, axis=0)
    return {
        "image": preprocessing.normalise(images.astype(jnp.float32)),
        "label": jnp.take(jnp.asarray(split.labels), chosen),
    }


@functools.partial(jax.jit, static_argnames=("pad", "flip"))
def _augment(key, step, rows, images: jax.Array, *, pad: int, flip: bool) -> jax.Array:
    step_key = jax.random.fold_in(key, step)

    def one(row: jax.Array, image: jax.Array) -> jax.Array:
        return pad_crop_flip(jax.random.fold_in(step_key, row), image, pad, flip)

    return jax.vmap(one)(rows, images)


def pad_crop_flip(key: jax.Array, image: jax.Array, pad: int, flip: bool) -> jax.Array:
    """Return a random crop of the zero-padded image, or of its mirror image.

    Args:
        key: random key.
        image: [H, W, C].
        pad: pixels of zeros on each side; each of the (2 pad + 1)² crops is as likely.
        flip: whether to mirror with probability 1/2.

    Returns:
        [H, W, C].
    """
    crop_key, flip_key = jax.random.split(key)
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left = jax.random.randint(crop_key, (2,), 0, 2 * pad + 1)
    crop = jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
    if flip:
        crop = jnp.where(jax.random.bernoulli(flip_key), crop[:, ::-1], crop)
    return crop
