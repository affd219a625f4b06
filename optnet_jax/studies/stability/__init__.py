"""What a structure does to signals and gradients: roots, norms, training at depth."""

from optnet_jax.studies.stability import run as STUDY  # noqa: N812

__all__ = ["STUDY"]
