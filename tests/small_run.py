"""A run that takes a second: a small network on generated images.

As a script, ``small_run.py WORKDIR [field=value ...] [--coordinator_address=A
--num_processes=N --process_id=I --heartbeat_timeout=S]``, it is what the tests start as
a process of its own, to kill it.
"""

import ast
import functools
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from optnet_jax.configs import recipes

from optnet_jax import data, networks
from optnet_jax.data import memory
from optnet_jax.runs import program

NUM_TRAIN, NUM_EVAL, BATCH = 64, 20, 16


class SmallNet(nn.Module):
    """Convolution, BatchNorm, dropout, head, and a learned coefficient."""

    num_classes: int = 10
    features: int = 4
    dropout_rate: float = 0.1
    dtype: jnp.dtype = jnp.float32
    learned: tuple[str, ...] = ("alpha",)

    @nn.compact
    def __call__(self, images, train: bool = False):
        x = nn.Conv(self.features, (3, 3), use_bias=False, dtype=self.dtype)(images)
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x)
        alpha = self.param("alpha", nn.initializers.ones_init(), (2,))
        x = alpha[0].astype(x.dtype) * nn.relu(x) + alpha[1].astype(x.dtype) * x
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.num_classes, dtype=self.dtype)(x.mean((1, 2)))
        return x.astype(jnp.float32)


@functools.cache
def split(size: int, seed: int) -> memory.Split:
    """Images of random noise around one random pattern per class."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 128, (10, 8, 8, 1))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, size).astype(np.int32)
    noise = rng.integers(0, 128, (size, 8, 8, 1))
    return memory.Split((patterns[labels] + noise).astype(np.uint8), labels)


def load(config, *, seed: int, spec: data.Spec | None = None):
    """Stands in for ``data.load``: the real pipeline on generated images."""
    options = data.Options.of(config)
    return memory.MemoryDataset(
        spec or data.get_spec(options.dataset),
        options,
        split(NUM_TRAIN, 1),
        split(NUM_EVAL, 2),
        seed=seed,
        version="generated",
    )


def small_config(**changes):
    """Four epochs of four steps; ``changes`` are dotted fields."""
    config, _ = recipes.digits("small", "")
    config.model = {"name": "small"}
    config.update_from_flattened_dict(
        {
            "data.batch_size": BATCH,
            "optimizer.learning_rate": 0.05,
            "schedule.epochs": 4.0,
            "schedule.warmup_epochs": 0.0,
            "checkpoint.every_epochs": 1.0,
            **changes,
        }
    )
    return config


def install(set_item, set_attribute) -> None:
    """Make the network and the images known under their names."""
    from optnet_jax.training import experiment

    set_item(networks.NETWORKS, "small", SmallNet)
    set_attribute(experiment.data, "load", load)


def main() -> None:
    from optnet_jax.runs import compilation, distributed
    from optnet_jax.training import loop

    install(lambda table, name, value: table.__setitem__(name, value), setattr)
    compilation.keep_programs()
    flags = [text for text in sys.argv[2:] if text.startswith("--")]
    if flags:
        address, *numbers = (text.split("=")[1] for text in flags)
        distributed.initialize(False, address, *map(int, numbers))
    fields = [text for text in sys.argv[2:] if not text.startswith("--")]
    changes = dict(text.split("=", 1) for text in fields)
    changes = {name: ast.literal_eval(value) for name, value in changes.items()}
    with distributed.together():
        loop.train(small_config(**changes), sys.argv[1])


if __name__ == "__main__":
    with program.edge():
        main()
