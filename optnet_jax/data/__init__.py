"""Datasets as batches that are a function of (seed, step).

>>> from optnet_jax import data
>>> dataset = data.load({"dataset": "optnet_digits"}, seed=0)  # doctest: +SKIP
>>> batch = next(dataset.train_batches(start_step=0))  # doctest: +SKIP

All sets come through TFDS's builders:

=============  ========  ==========================================================
name           pipeline  without a network
=============  ========  ==========================================================
optnet_digits  memory    prepares itself; the images come with scikit-learn
cifar10, 100   memory    from ``cifar-10-binary.tar.gz`` in
                         ``<data_dir>/downloads/manual``
fashion_mnist  memory    from the four archives there; Debian's package
                         ``dataset-fashion-mnist`` has them
mnist          memory    likewise from its own four
imagenet2012   streamed  from both ``ILSVRC2012_img_*.tar`` there
optnet_folder  either    from the pictures in ``config.data.folder``
=============  ========  ==========================================================

Small sets live on the device as uint8 and are shuffled, cropped and flipped there
(:mod:`.memory`); large ones are read, decoded and cropped by ``tf.data`` while the
network trains (:mod:`.stream`). A new dataset is one entry of :data:`SPECS`.
``python -m optnet_jax.data.prepare`` prepares a set from an archive that lies
elsewhere. TensorFlow is imported where a set is prepared, streamed, or not of
PNG images, and nowhere else.
"""

from collections.abc import Mapping
from typing import Any

from optnet_jax.configuration.train import Data as Options
from optnet_jax.configuration.train import Seed
from optnet_jax.data import folder
from optnet_jax.data.dataset import Dataset
from optnet_jax.data.spec import FOLDER, SPECS, Spec, get_spec
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import convert

__all__ = ["SPECS", "Dataset", "Options", "Spec", "get_spec", "load", "spec_of"]


def spec_of(options: Options) -> Spec:
    """Return the dataset that ``config.data`` names, at the size that it asks for.

    Raises:
        InputError: if there is no such dataset, if it is not resized, or if the folder
            that it is does not hold one.
    """
    if options.dataset == FOLDER:
        return folder.spec_of(options.folder, options.image_size)
    spec = get_spec(options.dataset)
    if options.folder:
        raise InputError(
            f"data.folder={shown(options.folder)} is not what "
            f"data.dataset={spec.name} reads: leave it empty, or set "
            f"--config.data.dataset={FOLDER}"
        )
    if not options.image_size:
        return spec
    if not spec.streamed:
        raise InputError(
            f"data.image_size={options.image_size} cannot be had of {options.dataset}; "
            "leave it 0"
        )
    return spec.with_image_size(options.image_size)


def load(
    config: Options | Mapping[str, Any], *, seed: int, spec: Spec | None = None
) -> Dataset:
    """Load a dataset and prepare it where that needs nobody's help.

    Args:
        config: ``config.data``; see :class:`Options` for its fields.
        seed: of the shuffling and the augmentation.
        spec: what :func:`spec_of` has said of it, if it has been asked: a folder is
            looked through once, and may change meanwhile.

    Returns:
        The dataset with its batches.

    Raises:
        InputError: if an option is wrong, or if the set is not in ``data_dir`` and
            cannot be had: without a network within two seconds.
    """
    options = Options.of(config)
    convert(seed, Seed, "seed")
    spec = spec or spec_of(options)

    from optnet_jax.data import features, source

    builder = source.prepared_builder(spec, options.data_dir)
    spec = features.measured(spec, builder)

    if spec.streamed:
        from optnet_jax.data import stream

        return stream.StreamDataset(spec, options, builder, seed=seed)

    from optnet_jax.data import arrays, memory

    return memory.MemoryDataset(
        spec,
        options,
        arrays.read_split(builder, "train"),
        arrays.read_split(builder, spec.eval_split),
        seed=seed,
        version=str(builder.version),
        class_names=features.class_names(builder),
    )
