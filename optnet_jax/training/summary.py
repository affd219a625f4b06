"""What a config's network looks like, without data and without training."""

from optnet_jax import data
from optnet_jax.configuration import Config
from optnet_jax.errors import InputError
from optnet_jax.networks import summary
from optnet_jax.training.experiment import create_network


def summarize(config: Config) -> str:
    """Describe the network of a config.

    Args:
        config: The config; its dataset gives the image shape and the classes.

    Returns:
        Several lines: parts, shapes, parameters, multiply-adds.

    Raises:
        InputError: if the config has no network, or names one that there is not.
    """
    if "model" not in config:
        raise InputError(
            f"{config.name} has no network to summarise: give a config that trains one"
        )
    spec = data.get_spec(config.data.dataset)
    return summary.summarize(create_network(config, spec.num_classes), spec.image_shape)
