"""The networks of §6 and their baselines."""

from optnet_jax.networks.registry import NETWORKS, create, field_defaults, field_kinds

__all__ = ["NETWORKS", "create", "field_defaults", "field_kinds"]
