"""Augmentation of a whole batch inside the training step.

It is drawn from the step's key on the whole batch of all devices, before the batch is
cut into micro-batches: nothing depends on how many there are of either.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.training.trivial_augment import trivial_augment

AREA = (0.02, 0.4)
ASPECT = (0.3, 1 / 0.3)


def augment(
    key: jax.Array,
    batch: Mapping[str, jax.Array],
    *,
    trivial: Preprocessing | None = None,
    erase: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> dict[str, jax.Array]:
    """Change images, erase parts of them, and mix each with another of its batch.

    Args:
        key: PRNG key.
        batch: ``image`` [B, H, W, C] and ``label`` int [B].
        trivial: How images were normalised, for :func:`.trivial_augment`.
        erase: Probability of :func:`erased`.
        mixup: α of :func:`mixup_share`.
        cutmix: α of :func:`cutmix_share`. With both, each step draws which.

    Returns:
        The batch; where images are mixed also ``partner`` int [B], the label of the
        other one, and ``share`` [B] in [0, 1], the first one's part in the target.
    """
    erase_key, choice_key, mix_key = jax.random.split(key, 3)
    images = batch["image"]
    if trivial:
        images = trivial_augment(jax.random.fold_in(key, 3), images, trivial)
    if erase:
        images = erased(erase_key, images, erase)
    if not (mixup or cutmix):
        return {**batch, "image": images}
    # A batch is in random order: reversed, each image meets one drawn at random.
    others = images[::-1]
    shape = images.shape[1], images.shape[2]
    keep = mixup_share(mix_key, mixup, shape) if mixup else None
    if cutmix:
        pasted = cutmix_share(mix_key, cutmix, shape)
        cut = jax.random.bernoulli(choice_key)
        keep = pasted if keep is None else jnp.where(cut, pasted, keep)
    assert keep is not None
    keep = keep.astype(images.dtype)[None, :, :, None]
    return {
        **batch,
        "image": keep * images + (1 - keep) * others,
        "partner": batch["label"][::-1],
        "share": jnp.full(len(images), keep.mean(dtype=jnp.float32)),
    }


def mixup_share(key: jax.Array, alpha: float, shape: tuple[int, int]) -> jax.Array:
    """Return what mixup keeps of an image, [H, W]: λ ~ Beta(α, α) of each pixel.

    Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: beyond empirical risk
    minimization" (2018); one λ for a batch, as in their code.
    """
    return jnp.full(shape, jax.random.beta(key, alpha, alpha))


def cutmix_share(key: jax.Array, alpha: float, shape: tuple[int, int]) -> jax.Array:
    """Return what CutMix keeps of an image, [H, W]: all but a rectangle, 0 within.

    Its sides are sqrt(1 - λ) of the image's, λ ~ Beta(α, α), its centre is anywhere;
    what lies outside of the image is cut off.

    Source: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix" (2019), Algorithm A1.
    """
    key, centre_key = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(key, alpha, alpha))
    centre = jax.random.uniform(centre_key, (2,))
    rows, columns = (
        jnp.abs(jnp.arange(n) + 0.5 - middle * n) < side * n / 2
        for n, middle in zip(shape, centre, strict=True)
    )
    return 1.0 - (rows[:, None] & columns[None])


def erased(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    """Paint a rectangle of some images with 0, the mean colour of normalised ones.

    Of 2 to 40 % of the area, its sides from 3:10 to 10:3, anywhere inside.

    Source: Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation" (2020),
    RE-M; a side that is longer than the image's is cut to it, not drawn again.
    """
    count, height, width, _ = images.shape
    draws = jax.random.uniform(key, (5, count))
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * draws[0])
    aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** draws[1]
    hidden = []
    for n, side, draw in (
        (height, jnp.sqrt(area * aspect), draws[2]),
        (width, jnp.sqrt(area / aspect), draws[3]),
    ):
        side = jnp.clip(jnp.round(side), 1, n)
        first = jnp.floor(draw * (n - side + 1))
        places = jnp.arange(n)[None] - first[:, None]
        hidden.append((places >= 0) & (places < side[:, None]))
    chosen = draws[4] < probability
    mask = hidden[0][:, :, None] & hidden[1][:, None, :] & chosen[:, None, None]
    return jnp.where(mask[..., None], 0, images)
