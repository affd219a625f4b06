"""What is saved beside the arrays of a checkpoint: what it belongs to, and checksums.

A checkpoint that is copied, or whose ``config.json`` is lost, still says which run it
is of: going on with another learning rate, seed or data set would be a run that no
config describes.
"""

import dataclasses
import json
from typing import Any

from optnet_jax.training.differences import config_differences
from optnet_jax.training.leaves import digest


@dataclasses.dataclass(frozen=True)
class Origin:
    """The run that a checkpoint belongs to.

    Attributes:
        config: Its config, as plain JSON types.
        data: ``Dataset.fingerprint``: what its images and labels are.
    """

    config: dict[str, Any]
    data: str

    def differences(self, now: "Origin") -> list[str]:
        """Say where this one, of a checkpoint, differs from the run under way."""
        found = config_differences(self.config, now.config)
        if self.data != now.data:
            found.append(f"its data was {self.data}, now {now.data}")
        return found


@dataclasses.dataclass(frozen=True)
class Meta:
    """The JSON beside the arrays; a digest covers all of it.

    Attributes:
        checksums: Checksum of each leaf, by name.
        history: The run's bookkeeping.
        origin: The run; ``None`` where an older version wrote the checkpoint.
    """

    checksums: dict[str, str]
    history: dict[str, Any]
    origin: Origin | None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types, with the digest."""
        content = dataclasses.asdict(self)
        if self.origin is None:
            del content["origin"]
        return {**content, "digest": _digest(content)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Meta":
        """Read what ``as_json`` returned.

        Raises:
            ValueError: if it is not what was written.
        """
        content = dict(content)
        written = content.pop("digest", None)
        if written is None and content.keys() != {"checksums", "history"}:
            raise ValueError("the digest of its metadata is missing")
        if written is not None and written != _digest(content):
            raise ValueError("its metadata does not match its digest")
        origin = content.get("origin")
        return cls(
            content["checksums"],
            content["history"],
            None if origin is None else Origin(**origin),
        )


def _digest(content: dict[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())
