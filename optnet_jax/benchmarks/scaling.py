"""The training step on several devices and processes beside that on one device."""

import argparse
import contextlib
import functools
import os
import re
import socket
from typing import Any

import jax
import numpy as np

from optnet_jax.benchmarks import programs
from optnet_jax.benchmarks.suite import (
    Column,
    Row,
    Suite,
    begin,
    network_name,
    positive,
)
from optnet_jax.benchmarks.timing import OtherProcess, Runs, ratios, take_turns
from optnet_jax.networks import create
from optnet_jax.runs.devices import keep_freed_memory
from optnet_jax.runs.distributed import initialize
from optnet_jax.training import sharding

DEVICE_COUNT = "--xla_force_host_platform_device_count"
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""One order of the operations on all devices. Otherwise two devices on one core, which
have two threads, may each wait in another sum for the other (seen with jaxlib 0.10.2:
half the runs ended after the 40 s that a sum waits)."""
WORKER = "optnet_jax.benchmarks.scaling:worker_runs"


def read_layouts(text: str) -> list[tuple[int, int]]:
    """Read numbers of processes and of devices in each, as "1x8,2x1", for argparse."""
    parts = [part.partition("x") for part in text.split(",")]
    return [(positive(processes), positive(devices)) for processes, _, devices in parts]


def _measure(layout: tuple[int, int], options: argparse.Namespace) -> list[Row]:
    """Time the single and the sharded step, in turns, in processes of their own.

    Weak scaling: as many images on each device as the single device has. The devices of
    a process are virtual and share its core, so what is compared is CPU time: that of
    the sharded step by that of as many single steps. Above 1 is overhead: collectives,
    and what the partitioned program does besides. Processes have a core each while
    there are enough; they wait for each other in a loop, which counts. The ratio is
    that of the worst process.
    """
    processes, devices = layout
    begin(f"{processes} process(es) of {devices} device(s)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(OtherProcess(WORKER, index, layout, address, options))
            for index in range(processes)
        ]
        for worker in workers:
            worker.wait()

        def together(name: str) -> list[float]:
            answers = [worker.ask(name) for worker in workers]
            return [seconds() for seconds in answers]

        runs = {n: functools.partial(together, n) for n in ("single", "sharded")}
        times = take_turns(runs, options.repeats)
        for worker in workers:  # each ends when all do
            worker.dismiss()
    single = np.array(times["single"]).T / options.batch
    sharded = np.array(times["sharded"]).T / (options.batch * devices)
    spreads = [ratios(*pair) for pair in zip(sharded, single, strict=True)]
    row = {
        "case": f"{processes} x {devices}",
        "images": options.batch * devices * processes,
        "single": np.median(single, axis=1).mean(),
        "sharded": np.median(sharded, axis=1).mean(),
        "ratio": max(spreads, key=lambda spread: spread["median"]),
    }
    return [row]


def worker_runs(
    index: int, layout: tuple[int, int], address: str, options: argparse.Namespace
) -> Runs:
    """Make the step on the first device of this process, and that on all devices.

    Args:
        index: of this process.
        layout: the number of processes, and of devices in each.
        address: of the first of them.
        options: of the suite.
    """
    processes, devices = layout
    # Before JAX starts its devices, and its threads.
    flags = re.sub(rf"{DEVICE_COUNT}=\d+", "", os.environ.get("XLA_FLAGS", ""))
    os.environ["XLA_FLAGS"] = f"{flags} {IN_ORDER} {DEVICE_COUNT}={devices}"
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0), reverse=True)
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    if processes > 1:
        initialize(False, address, processes, index)
    keep_freed_memory()
    network: Any = create(options.network)
    shape = (options.image_size, options.image_size, 3)
    state, batch = programs.start(network, shape, options.batch)
    mesh = sharding.data_mesh()
    # From the host: every process has drawn the same state.
    everywhere = jax.device_put(jax.device_get(state), sharding.replicated(mesh))
    rows = jax.tree.map(lambda x: np.concatenate([x] * devices), batch)
    split = sharding.put_batch(rows, mesh)
    return {
        "single": programs.training_program(network, state, batch).run,
        "sharded": programs.training_program(network, everywhere, split).run,
    }


SUITE = Suite(
    "scaling",
    "the training step on several devices and processes, beside that on one",
    "layouts",
    _measure,
    (
        Column("processes x devices", "case"),
        Column("images a step", "images"),
        Column("single (CPU ms / image)", "single", 1e3),
        Column("sharded (CPU ms / image)", "sharded", 1e3),
        Column("sharded / single", "ratio", quartiles=True),
    ),
    {
        "layouts": {"type": read_layouts, "default": "1x1,1x2,1x4,1x8,2x1"},
        "network": {"type": network_name, "default": "hb_net20"},
        "batch": {"type": positive, "default": 16, "help": "images a device"},
        "image-size": {"type": positive, "default": 32},
    },
    one_core=False,
)
