"""Single convolutions of the networks, and their gradients, beside PyTorch's."""

from __future__ import annotations

import argparse
import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.benchmarks.activity import begin
from optnet_jax.benchmarks.suite import Row, Suite, interval, number
from optnet_jax.benchmarks.torch_process import (
    Runs,
    TorchProcess,
    beside,
    has_torch,
)
from optnet_jax.errors import InputError
from optnet_jax.ops.convolution import same_convolution
from optnet_jax.studies.tables import markdown_table

CASES = (
    "32x32x32x16-16",
    "32x16x16x32-32",
    "32x8x8x64-64",
    "16x32x32x88-12",
    "4x56x56x64-64",
    "4x28x28x128-128",
    "4x14x14x256-256",
    "4x7x7x512-512",
    "4x56x56x128-32",
)
"""Images x height x width x channels - features: of ResNet-56's three stages,
DenseNet-40, ResNet-34's four stages, and DenseNet-121."""
SIZE = 3
"""Height and width of the kernels."""
TOLERANCE = 1e-4
"""Largest difference that is taken for rounding, by the largest value."""


class Operands(NamedTuple):
    """What a convolution y = x ∗ w and its gradients take.

    Attributes:
      x: [B, H, W, C].
      w: [3, 3, C, F].
      dy: the cotangent of y, [B, H, W, F].
    """

    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray

    @property
    def operations(self) -> int:
        """Floating-point operations of y, as many as of each gradient."""
        return 2 * self.dy.size * self.w[..., 0].size


class Convolutions(Suite):
    """Where a network's time goes if its convolutions differ from PyTorch's."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the shapes."""
        parser.add_argument("--cases", default=",".join(CASES), help="BxHxWxC-F")
        parser.add_argument("--repeats", type=int, default=20, help="timed rounds")

    def run(self, options: argparse.Namespace) -> list[Row]:
        """See :meth:`Suite.run`."""
        if options.repeats < 1:
            raise InputError("--repeats must be positive")
        cases = {case: _operands(case) for case in options.cases.split(",")}
        rows = []
        for case, operands in cases.items():
            rows += _measure(case, operands, options.repeats)
        return rows

    def markdown(self, rows: list[Row]) -> str:
        """Lay out the rows; ratios with their quartiles."""
        lines = []
        for row in rows:
            speed = {
                who: number(row["operations"] / row[who]["median"], 1e-9)
                for who in ("ours", "torch")
                if who in row
            }
            lines.append(
                [
                    row["case"],
                    row["of"],
                    number(row["ours"]["median"], 1e3),
                    speed["ours"],
                    speed.get("torch", "not run"),
                    interval(row["ratio"]) if "ratio" in row else "-",
                ]
            )
        head = ["images x height x width x channels - features", "of", "ours (ms)"]
        return markdown_table(
            [*head, "ours (GFLOP/s)", "PyTorch (GFLOP/s)", "PyTorch / ours (time)"],
            lines,
        )


def _operands(case: str) -> Operands:
    """Draw the operands of a case such as "4x56x56x64-64"."""
    shape, _, features = case.partition("-")
    numbers = [*shape.split("x"), features]
    if len(numbers) != 5 or not all(n.isdecimal() and int(n) for n in numbers):
        raise InputError(f"{case!r} must be as 4x56x56x64-64, see --help")
    images, height, width, channels, features = map(int, numbers)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return Operands(
        normal(images, height, width, channels),
        normal(SIZE, SIZE, channels, features),
        normal(images, height, width, features),
    )


def _measure(case: str, operands: Operands, repeats: int) -> list[Row]:
    functions = {
        "y": lambda x, w, dy: same_convolution(x, w),
        "its gradient by x": lambda x, w, dy: _gradients(x, w, dy)[0],
        "its gradient by w": lambda x, w, dy: _gradients(x, w, dy)[1],
    }
    begin(f"{case}: {repeats} rounds of a convolution and its two gradients")
    arguments = tuple(map(jnp.asarray, operands))
    compiled = {
        of: jax.jit(function).lower(*arguments).compile()
        for of, function in functions.items()
    }
    results = {of: program(*arguments) for of, program in compiled.items()}
    with contextlib.ExitStack() as stack:
        theirs = None
        if has_torch():
            theirs = stack.enter_context(
                TorchProcess(torch_convolutions, *operands, results)
            )
        return [
            {
                "case": case,
                "of": of,
                "operations": operands.operations,
                **beside(
                    functools.partial(_run, program, arguments), theirs, of, repeats
                ),
            }
            for of, program in compiled.items()
        ]


def _gradients(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple:
    return jax.vjp(same_convolution, x, w)[1](dy)


def _run(program: Any, arguments: tuple) -> None:
    jax.block_until_ready(program(*arguments))


def torch_convolutions(
    device: str, x: Any, w: Any, dy: Any, results: dict[str, Any]
) -> Runs:
    """Make PyTorch's form of a convolution and its gradients, channels-last.

    Args:
      device: "cpu" or "cuda".
      x: as in :class:`Operands`.
      w: as there.
      dy: as there.
      results: ours, which must be the same.

    Returns:
      A run for each of the results.

    Raises:
      InputError: PyTorch's results are others.
    """
    import torch

    def channels_last(array: Any, *axes: int) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(array)).permute(*axes).to(device)
        return tensor.contiguous(memory_format=torch.channels_last)

    images = channels_last(x, 0, 3, 1, 2)
    kernel = channels_last(w, 3, 2, 0, 1)
    cotangent = channels_last(dy, 0, 3, 1, 2)

    def gradient(of_x: bool, of_w: bool) -> Any:
        mask = [of_x, of_w, False]
        both = torch.ops.aten.convolution_backward(
            cotangent,
            images,
            kernel,
            None,
            [1, 1],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            1,
            mask,
        )
        return both[0] if of_x else both[1]

    forms = {
        "y": (lambda: torch.conv2d(images, kernel, padding=1), (0, 2, 3, 1)),
        "its gradient by x": (lambda: gradient(True, False), (0, 2, 3, 1)),
        "its gradient by w": (lambda: gradient(False, True), (2, 3, 1, 0)),
    }

    def checked(of: str) -> Any:
        function, axes = forms[of]

        def run() -> Any:
            with torch.inference_mode():
                result = function()
            if device == "cuda":
                torch.cuda.synchronize()
            return result

        ours, theirs = results[of], run().permute(*axes).cpu().numpy()
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        if not difference <= TOLERANCE:
            raise InputError(
                f"PyTorch's {of} differs by {difference:.1e} of the largest"
            )
        return run

    return {of: checked(of) for of in forms}


SUITE = Convolutions()
