"""The networks of §6 and their baselines."""

from optnet_jax.networks.registry import NETWORKS, create

__all__ = ["NETWORKS", "create"]
