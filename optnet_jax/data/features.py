"""What a prepared TFDS builder declares of its set, without a record being read."""

import hashlib
import json
from typing import Any


def class_names(builder: Any) -> tuple[str, ...]:
    """The names of the classes; their numbers where the set has none.

    Args:
        builder: ``tfds.core.DatasetBuilder``, prepared or not.

    Returns:
        The names in the order of the labels; empty if ``label`` is no ``ClassLabel``
        and so says nothing of classes.
    """
    label = builder.info.features["label"]
    if getattr(label, "num_classes", None) is None:
        return ()
    return tuple(label.names)


def fingerprint(builder: Any) -> str:
    """A digest of a prepared set that is too large to be read for one.

    It covers the splits, how many records each of their files holds, their size in
    bytes, the features and the names of the classes, but neither the folder that the
    set lies in nor the state of its files: one that is damaged later is not another
    set.

    Args:
        builder: prepared ``tfds.core.DatasetBuilder``.
    """
    splits = {
        name: [list(split.filenames), list(split.shard_lengths), int(split.num_bytes)]
        for name, split in sorted(builder.info.splits.items())
    }
    features = builder.info.features.to_json()
    content = json.dumps([splits, features, class_names(builder)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
