"""What a user does with a trained network: predict, look inside, export, release."""

from optnet_jax.inference.predictions import Predictions
from optnet_jax.inference.trained import Trained, load_run, released

__all__ = ["Predictions", "Trained", "load_run", "released"]
