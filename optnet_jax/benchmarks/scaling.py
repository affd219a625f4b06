"""The training step on several devices and processes beside that on one device."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys

from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.suite import Row, Suite, interval, number, whole_numbers
from optnet_jax.errors import InputError
from optnet_jax.studies.tables import markdown_table

DEVICE_COUNT = "--xla_force_host_platform_device_count"
IN_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""One order of the operations on all devices. Otherwise two devices on one core, which
have two threads, may each wait in another sum for the other (seen with jaxlib 0.10.2:
half the runs ended after the 40 s that a sum waits)."""


class Scaling(Suite):
    """Weak scaling: as many images on each device as the single device has.

    The devices of a process are virtual and share its core, so what is compared is CPU
    time: that of the sharded step by that of as many single steps. Above 1 is overhead:
    collectives, and what the partitioned program does besides. Processes have a core
    each while there are enough; they wait for each other in a loop, which counts.
    """

    one_core = False

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the network, the devices and the processes."""
        parser.add_argument("--network", default="hb_net20")
        parser.add_argument("--batch", type=int, default=16, help="images a device")
        parser.add_argument("--image-size", type=int, default=32)
        parser.add_argument("--devices", default="1,2,4,8", help="of one process")
        parser.add_argument("--processes", default="2", help="of one device each")
        parser.add_argument("--repeats", type=int, default=10, help="timed rounds")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`; each row is measured in processes of its own."""
        cases = [(n, 1) for n in whole_numbers(options.devices)]
        if options.processes:
            cases += [(1, n) for n in whole_numbers(options.processes)]
        if min(options.batch, options.image_size, options.repeats) < 1:
            raise InputError("--batch, --image-size and --repeats must be positive")
        return [_measure(devices, processes, options) for devices, processes in cases]

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the rows; ratios with their quartiles, the worst process's."""
        head = ["processes x devices", "images a step", "single (CPU ms / image)"]
        lines = [
            [
                f"{row['processes']} x {row['devices']}",
                str(row["images"]),
                number(row["single"], 1e3),
                number(row["sharded"], 1e3),
                interval(row["ratio"]),
            ]
            for row in rows
        ]
        return markdown_table(
            [*head, "sharded (CPU ms / image)", "sharded / single"], lines
        )


def _measure(devices: int, processes: int, options: argparse.Namespace) -> Row:
    """Run one worker in each process, and take their results together."""
    flags = re.sub(rf"{DEVICE_COUNT}=\d+", "", os.environ.get("XLA_FLAGS", ""))
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{flags} {IN_ORDER} {DEVICE_COUNT}={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "optnet_jax.benchmarks.scaling_worker"]
    for name in ("network", "batch", "image_size", "repeats"):
        command.append(f"--{name}={getattr(options, name)}")
    if processes > 1:
        command += [f"--coordinator={_free_address()}", f"--processes={processes}"]
    begin(f"{processes} process(es) of {devices} device(s)")
    workers = [
        subprocess.Popen(
            [*command, f"--index={index}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is this process's alone to answer.
            start_new_session=True,
        )
        for index in range(processes)
    ]
    try:
        outputs = [worker.communicate() for worker in workers]
    except BaseException:
        for worker in workers:
            worker.kill()
        raise
    for worker, (_, errors) in zip(workers, outputs, strict=True):
        if worker.returncode:
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"a process of {processes} failed: {last}")
    results = [json.loads(text.splitlines()[-1]) for text, _ in outputs]
    ratios = [result["ratio"] for result in results]
    return {
        "devices": devices,
        "processes": processes,
        "images": options.batch * devices * processes,
        "single": statistics.mean(result["single"] for result in results),
        "sharded": statistics.mean(result["sharded"] for result in results),
        "ratio": max(ratios, key=lambda ratio: ratio["median"]),
    }


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


SUITE = Scaling()
