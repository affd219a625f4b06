"""One process of :mod:`optnet_jax.benchmarks.scaling`; prints its measurements."""

import argparse
import dataclasses
import json
import os
from typing import Any

import jax
import numpy as np

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.jax_runs import random_batch
from optnet_jax.benchmarks.timing import Spread, ratios, take_turns, timed
from optnet_jax.networks import create
from optnet_jax.runs.devices import keep_freed_memory
from optnet_jax.runs.distributed import initialize
from optnet_jax.training import sharding


def main() -> None:
    """Time the single step on this process's first device, and the sharded step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", required=True)
    for name in ("--batch", "--image_size", "--repeats", "--index"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--coordinator", default="")
    parser.add_argument("--processes", type=int)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0), reverse=True)
        os.sched_setaffinity(0, {cores[options.index % len(cores)]})
    if options.coordinator:
        initialize(False, options.coordinator, options.processes, options.index)
    keep_freed_memory()
    network: Any = create(options.network)
    shape = (options.image_size, options.image_size, 3)
    batch = random_batch(options.batch, shape, network.num_classes)
    state = jax_runs.initial_state(network, shape)
    mesh = sharding.data_mesh()
    local = len(jax.local_devices())
    rows = {
        name: np.concatenate([np.asarray(value)] * local)
        for name, value in batch.items()
    }
    # From the host: every process has drawn the same state.
    everywhere = jax.device_put(jax.device_get(state), sharding.replicated(mesh))
    programs = {
        "single": jax_runs.training_program(network, state, batch),
        "sharded": jax_runs.training_program(
            network, everywhere, sharding.put_batch(rows, mesh)
        ),
    }
    runs = {name: timed(program.run) for name, program in programs.items()}
    times = take_turns(runs, options.repeats)
    images = {"single": options.batch, "sharded": options.batch * local}
    per_image = {k: [t / images[k] for t in values] for k, values in times.items()}
    ratio = ratios(per_image["sharded"], per_image["single"])
    result = {name: Spread.of(values).median for name, values in per_image.items()}
    print(json.dumps({**result, "ratio": dataclasses.asdict(ratio)}))


if __name__ == "__main__":
    main()
