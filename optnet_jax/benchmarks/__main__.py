"""Time training steps and inference, beside PyTorch where it is installed.

    python -m optnet_jax.benchmarks --networks=resnet56,densenet40 --json=FILE

On a CPU one core is used and the process's CPU time is measured; ours and PyTorch's
eager channels-last form of the same network, with the same weights and checked to
compute the same logits, take turns. Above 1, ours is faster.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optnet_jax.errors import InputError

DEFAULT_BATCHES = {
    "resnet56": 32,
    "densenet40": 16,
    "resnet34": 4,
    "densenet121": 4,
    "hb_net56": 32,
    "agd_net40": 16,
    "hb_net34": 4,
    "agd_net121": 4,
}
"""Network -> images a step on one core."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m optnet_jax.benchmarks",
        description="Time training steps and inference, beside PyTorch.",
    )
    parser.add_argument("--networks", default="resnet56,densenet40")
    parser.add_argument("--batch", type=int, default=0, help="images a step")
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds")
    parser.add_argument(
        "--image-size", type=int, default=0, help="32 or 224 by default"
    )
    parser.add_argument("--json", default="", help="file for the measurements")
    parser.add_argument("--markdown", default="", help="file for the table")
    options = parser.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):
        # Before JAX starts: its thread pool is as large as the set of cores.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from optnet_jax.benchmarks import report

    try:
        if options.repeats < 1 or options.batch < 0 or options.image_size < 0:
            raise InputError("--repeats, --batch and --image-size must be positive")
        rows: list[dict[str, Any]] = []
        for name in options.networks.split(","):
            batch = options.batch or DEFAULT_BATCHES.get(name, 16)
            measured = report.measure(
                name, batch, options.image_size, options.repeats, _has_torch()
            )
            rows += measured
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = {"environment": report.environment(), "rows": rows}
    text = report.markdown(result)
    print(text)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if options.markdown:
        Path(options.markdown).write_text(text + "\n", "utf-8")
    return 0


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


if __name__ == "__main__":
    sys.exit(main())
