"""The hypothesis of §5, tested on targets that a network can learn and can fail to."""

from optnet_jax.studies.hypothesis import run as STUDY  # noqa: N812

__all__ = ["STUDY"]
