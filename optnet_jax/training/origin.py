"""What is saved beside the arrays of a checkpoint: what it belongs to, and checksums.

A checkpoint that is copied, or whose ``config.json`` is lost, still says which run it
is of: going on with another learning rate, seed or data set would be a run that no
config describes.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax

from optnet_jax.training.differences import config_differences
from optnet_jax.training.leaves import digest

_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


def settings() -> dict[str, Any]:
    """Return JAX's settings that numbers depend on.

    They come from environment variables, ``JAX_ENABLE_X64``, ``JAX_DEFAULT_PRNG_IMPL``
    and so on, or from ``jax.config.update``.
    """
    return {name: getattr(jax.config, name) for name in _SETTINGS}


def settings_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which settings are others than in an earlier start, as far as both know."""
    return [
        f"{name} was {before[name]}, now {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]


@dataclasses.dataclass(frozen=True)
class Origin:
    """The run that a checkpoint belongs to.

    Attributes:
        config: Its config, as plain JSON types.
        data: ``Dataset.fingerprint``: what its images and labels are.
        treatment: ``Dataset.treatment``: what is made of them; empty of an older
            version's checkpoint.
        settings: JAX's, see :func:`settings`; likewise.
        jax: JAX's version; likewise.
    """

    config: dict[str, Any]
    data: str
    treatment: dict[str, Any] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=settings)
    jax: str = jax.__version__

    def differences(self, now: "Origin") -> list[str]:
        """Say where this one, of a checkpoint, differs from the run under way."""
        found = config_differences(self.config, now.config)
        if self.data != now.data:
            found.append(f"its data was {self.data}, now {now.data}")
        changed = settings_changed(self.treatment, now.treatment)
        found += [f"its Spec's {change}" for change in changed]
        return found + settings_changed(self.settings, now.settings)


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
            None if origin is None else Origin(**{"settings": {}, "jax": "", **origin}),
        )


def _digest(content: dict[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True).encode())
