"""Table 2 of §5.3: what the simulation nets reach, and what that measures."""

from optnet_jax.studies.table2 import run as STUDY  # noqa: N812

__all__ = ["STUDY"]
