"""What a config's network looks like, without data and without training."""

from pathlib import Path

from flax import linen as nn

from optnet_jax import data
from optnet_jax.configuration import Config, TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.inspect import figure, summary
from optnet_jax.training.experiment import check_classes, create_network


def network(config: Config | TrainConfig) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the network of a config and the shape of its images.

    Args:
        config: The config; its dataset gives the image shape and the classes.

    Raises:
        InputError: if the config has no network, or names one that there is not.
    """
    if not isinstance(config, TrainConfig) and "model" not in config:
        raise InputError(
            f"{config.get('name', 'the config')} has no network to summarise: give a "
            "config that trains one"
        )
    config = TrainConfig.of(config)
    spec = data.spec_of(config.data)
    module = create_network(config, spec.num_classes)
    check_classes(module, spec)
    return module, spec.image_shape


def summarize(config: Config | TrainConfig) -> str:
    """Describe the network of a config.

    Args:
        config: The config; memory is estimated for its batch size, or for a
            micro-batch if it accumulates gradients.

    Returns:
        Several lines: the network's name and fields, parts, shapes, parameters,
        multiply-adds, memory.

    Raises:
        InputError: see :func:`network`.
    """
    module, image_shape = network(config)
    config = TrainConfig.of(config)
    micro_batch = config.data.batch_size // config.optimizer.accumulate
    model = config.model
    given = ", ".join(f"{field}={value!r}" for field, value in model.fields.items())
    title = f"{config.name}: {model.name}({given}) on {config.data.dataset}"
    return f"{title}\n{summary.summarize(module, image_shape, micro_batch)}"


def show(config: Config | TrainConfig, workdir: Path) -> None:
    """Print the summary, and draw a network of stages to ``plots/structure.png``.

    Raises:
        InputError: see :func:`network`; or if the drawing cannot be written.
    """
    print(summarize(config), flush=True)
    module, _ = network(config)
    if figure.is_drawable(module):
        file = workdir / "plots" / "structure.png"
        figure.draw_network(module, file)
        print(f"drawn: {file}", flush=True)
