"""What a prepared TFDS builder declares of its set, without a record being read."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from optnet_jax.data.spec import FOLDER, Spec
from optnet_jax.errors import InputError, named


def check(spec: Spec, builder: Any) -> None:
    """Refuse a set that declares something else than its entry in the table says.

    Raises:
        InputError: naming what is declared and what it should be.
    """
    features: Any = builder.info.features
    where = f"{spec.name} in {builder.data_dir}"
    change = "change the one or the other"
    for name in ("image", "label"):
        if name not in features:
            raise InputError(
                f"{where} has no feature {name!r} but {', '.join(sorted(features))}: "
                "its builder must call them image and label"
            )
    image: Any = features["image"]
    label: Any = features["label"]
    if spec.streamed and not issubclass(type(image), tfds.features.Image):
        raise InputError(
            f"the images of {where} are a {type(image).__name__}: a streamed set needs "
            "tfds.features.Image"
        )
    wanted = (None, None, spec.image_shape[2]) if spec.streamed else spec.image_shape
    shape = tuple(image.shape)
    fits = len(shape) == 3 and all(
        None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )
    if not fits or image.np_dtype != np.uint8:
        raise InputError(
            f"the images of {where} are {np.dtype(image.np_dtype)} {shape}, its Spec "
            f"says uint8 {wanted}: {change} (grey images have 1 channel, those with "
            "transparency 4)"
        )
    if not np.issubdtype(label.np_dtype, np.integer) or tuple(label.shape) != ():
        raise InputError(
            f"the labels of {where} are {label}: they must be one integer for each "
            "image, best as tfds.features.ClassLabel"
        )
    names = class_names(builder)
    if names and len(names) != spec.num_classes:
        raise InputError(
            f"{where} has {len(names)} classes, its Spec says "
            f"num_classes={spec.num_classes}: {change}"
        )
    for split in ("train", spec.eval_split):
        cure = "delete that directory and prepare it from"
        if split not in builder.info.splits:
            if spec.manual:
                raise InputError(
                    f"{where} was prepared without its {split} split; {cure} all "
                    "archives"
                )
            need = f"its builder must have a split {split}"
            if split != "train":
                need += ", or its Spec another eval_split, whole"
            raise InputError(
                f"{where} has the splits {', '.join(sorted(builder.info.splits))} and "
                f"no {split}: delete that directory if it is in part, else {need}"
            )
        if not builder.info.splits[split].num_examples:
            raise InputError(f"the {split} split of {where} is empty; {cure} something")


def measured(spec: Spec, builder: Any) -> Spec:
    """Return an entry with what a prepared set has measured: its mean and deviation.

    Of a folder its note says, too, how many pictures lie both in train and in test.

    Args:
        spec: the entry; one that has them is returned as it is.
        builder: the prepared ``tfds.core.DatasetBuilder``.

    Raises:
        InputError: if the set does not tell them, or all its images are of one colour.
    """
    if spec.mean and spec.std:
        return spec
    metadata = builder.info.metadata or {}
    if not all(metadata.get(name) for name in ("mean", "std")):
        raise InputError(
            f"{spec.name} in {builder.data_dir} says nothing of its mean and std: put "
            "them into its Spec"
        )
    mean, std = (tuple(metadata[name]) for name in ("mean", "std"))
    if not any(std):
        raise InputError(
            f"the training images of {spec.name} in {builder.data_dir} are all of one "
            "colour"
        )
    # A channel that is the same everywhere is 0 once its mean is off.
    std = tuple(s or 1.0 for s in std)
    note = spec.note
    if twice := metadata.get("tested_and_trained_on"):
        note += f"; {twice[0]} of test are in train, too, such as {named(twice[1])}"
    return dataclasses.replace(spec, mean=mean, std=std, note=note)


def class_names(builder: Any) -> tuple[str, ...]:
    """Return the names of the classes; their numbers where the set has none.

    Returns:
        The names in the order of the labels; empty if ``label`` is no ``ClassLabel``
        and so says nothing of classes.
    """
    label = builder.info.features["label"]
    if getattr(label, "num_classes", None) is None:
        return ()
    return tuple(label.names)


def fingerprint(spec: Spec, builder: Any) -> str:
    """Return a digest of a prepared set that is too large to be read for one.

    It covers the splits, how many records each of their files holds, their size in
    bytes, the features and the names of the classes, but neither the folder that the
    set lies in nor the state of its files: one that is damaged later is not another
    set. Of a folder of pictures it covers their paths in it, labels and sizes. Of
    another set nothing tells what is in the records: one that is prepared anew with
    other labels has the same digest, so raise the builder's version then.
    """
    splits = {
        name: [list(split.filenames), list(split.shard_lengths), int(split.num_bytes)]
        for name, split in sorted(builder.info.splits.items())
    }
    features = builder.info.features.to_json()
    declared = [splits, features, class_names(builder)]
    if spec.name == FOLDER and spec.builder_config:
        found = spec.builder_config["found"]
        # Without their times, which a copy need not keep.
        pictures = (*found.train, *found.test)
        declared.append([(path, label, state[0]) for path, label, state in pictures])
    content = json.dumps(declared, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def files_of(builder: Any, split: str) -> tuple[list[str], list[int]]:
    """Return the files of a split, in order, and how many records each of them has.

    Raises:
        InputError: if they are not TFRecord files.
    """
    file_format = builder.info.file_format.value
    if file_format != "tfrecord":
        raise InputError(
            f"{builder.name} in {builder.data_dir} is stored as {file_format}, which "
            "cannot be read here; prepare it as tfrecord, TFDS's default"
        )
    parts = builder.info.splits[split].file_instructions
    return [part.filename for part in parts], [part.examples_in_shard for part in parts]
