"""What a config's network looks like, without data and without training."""

from flax import linen as nn

from optnet_jax import data
from optnet_jax.configuration import Config
from optnet_jax.errors import InputError
from optnet_jax.networks import summary
from optnet_jax.training.experiment import create_network


def network(config: Config) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the network of a config and the shape of its images.

    Args:
        config: The config; its dataset gives the image shape and the classes.

    Raises:
        InputError: if the config has no network, or names one that there is not.
    """
    if "model" not in config:
        raise InputError(
            f"{config.name} has no network to summarise: give a config that trains one"
        )
    spec = data.get_spec(config.data.dataset)
    if config.data.get("image_size"):
        spec = spec.with_image_size(config.data.image_size)
    return create_network(config, spec.num_classes), spec.image_shape


def summarize(config: Config) -> str:
    """Describe the network of a config.

    Args:
        config: The config; memory is estimated for its batch size, or for a piece of
            the batch if it accumulates gradients.

    Returns:
        Several lines: parts, shapes, parameters, multiply-adds, memory.

    Raises:
        InputError: see :func:`network`.
    """
    module, image_shape = network(config)
    piece = config.data.batch_size // config.optimizer.accumulate
    return summary.summarize(module, image_shape, piece)
