"""Networks whose structure comes from an optimisation algorithm, in JAX and Flax.

Li, Yang, Chen, Lin (2018), "Optimization Algorithm Inspired Deep Neural Network
Structure Design". The rooms follow the paper's chain:

``recurrences`` (the methods) → ``structures`` (a method over linen transforms) →
``networks`` → ``training`` → ``studies``. ``load_run`` gives a trained network.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optnet_jax.inference import load_run

__all__ = ["load_run"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what takes seconds once it is asked for."""
    if name == "load_run":
        from optnet_jax import inference

        return inference.load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
