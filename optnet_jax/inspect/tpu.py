"""What a TPU's compiler says of a program, on a machine that need not have a TPU."""

import importlib.metadata
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

from optnet_jax.errors import InputError, one_line, shown
from optnet_jax.inspect import hlo
from optnet_jax.runs import program, progress

CURE = "pip install -e '.[tpu]' (Linux on x86-64), which brings it"

FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBIC = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
CUBIC += ("8x8x8", "8x8x16", "8x16x16", "16x16x16")


class Chip(NamedTuple):
    """What there is to know about a generation of chips.

    Attributes:
        memory: bytes of its HBM.
        bandwidth: bytes a second between it and its HBM.
        flops: operations a second in bfloat16, in which a TPU also multiplies float32
            by default.
        shapes: of the slices that there are.
        config: how its cores are one device or two, for the compiler.
    """

    memory: float
    bandwidth: float
    flops: float
    shapes: tuple[str, ...]
    config: str = "default"


CHIPS = {
    "v2": Chip(16 * 2**30, 700e9, 46e12, FLAT),
    "v3": Chip(32 * 2**30, 900e9, 123e12, (*FLAT, "16x32", "32x32")),
    "v4": Chip(32 * 2**30, 1200e9, 275e12, CUBIC, "megacore"),
    "v5e": Chip(16 * 2**30, 819e9, 197e12, FLAT),
    "v5p": Chip(95 * 2**30, 2765e9, 459e12, CUBIC, "megacore"),
    "v6e": Chip(32 * 2**30, 1638e9, 918e12, FLAT),
    "tpu7x": Chip(192 * 2**30, 7380e9, 2307e12, CUBIC),
}
"""Generation, as a topology's name has it, -> a chip, as the pages of Google Cloud that
are called after it state it: https://docs.cloud.google.com/tpu/docs/v5e."""

SETTINGS = {
    # Neither the machine's own TPU nor its description is asked for.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # No lock on the machine's TPU: the file of it would stay behind.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": os.devnull,
    "TPU_MIN_LOG_LEVEL": "4",
}
"""Environment in which libtpu compiles, says nothing and leaves nothing."""

OVERFLOW = re.compile(
    r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"
    r"|Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"
)
PATIENCE = 30.0
"""Seconds between two lines that say that the compiler is at work."""
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Topology(NamedTuple):
    """A slice of a pod.

    Attributes:
        name: such as "v5e:4x4".
        chip: what each of its chips is.
        devices: to compile for; a chip is one or two of them.
        chips: their number.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]
    chips: int


class Program(NamedTuple):
    """What the compiler says of a program, for each chip.

    Attributes:
        seconds: that it took to compile.
        fits: whether the chip's memory is enough.
        memory: bytes that are needed at once.
        capacity: bytes that there are.
        flops: operations of a run; 0, as all that follows, if it does not fit.
        traffic: bytes that its operations read and write, as the compiler counts them:
            on-chip memory is counted, too.
        hbm: bytes that they read from HBM and write to it.
        collectives: kind -> number in the program.
        loops: how many there are: of each, one turn is counted.
    """

    seconds: float
    fits: bool
    memory: float
    capacity: float
    flops: float = 0.0
    traffic: float = 0.0
    hbm: float = 0.0
    collectives: Mapping[str, int] = MappingProxyType({})
    loops: int = 0


def check_name(name: str) -> Chip:
    """Return the chip of a topology's name, such as "v5e:4x4".

    Raises:
        InputError: there is no slice of that name.
    """
    generation, _, shape = name.partition(":")
    chip = CHIPS.get(generation)
    if chip is None:
        raise InputError(
            f"no TPU topology is called {shown(name)}: use GENERATION:SHAPE, such as "
            f"v5e:4x4 or v4:2x2x1, with a generation of {', '.join(CHIPS)}"
        )
    if shape not in chip.shapes:
        names = ", ".join(f"{generation}:{shape}" for shape in chip.shapes)
        raise InputError(f"no TPU topology is called {shown(name)}: use {names}")
    return chip


def topology(name: str) -> Topology:
    """Return a slice of a pod, whatever this machine has.

    Args:
        name: generation and shape, such as "v5e:4x4".

    Raises:
        InputError: there is none of that name, or no compiler for it.
    """
    chip = check_name(name)
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"compiling for a TPU needs libtpu: {CURE}")
    from jax.experimental import topologies

    options: dict[str, Any] = {"chip_config_name": chip.config}
    if set(name.partition(":")[2].split("x")) == {"1"}:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        with mock.patch.dict(os.environ, SETTINGS):
            found = topologies.get_topology_desc(name, "tpu", **options)
    except Exception as error:  # whatever the plugin or a version of it raises
        raise InputError(
            f"libtpu cannot compile for {name}: {one_line(error, 200)}"
        ) from error
    devices = tuple(found.devices)
    chips = len({tuple(device.coords) for device in devices})
    return Topology(name, chip, devices, chips)


def version() -> str:
    """Return the versions of the compiler and of what asks it."""
    names = ("libtpu", "jax")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def compile_for(place: Topology, lowered: Any) -> Program:
    """Compile a program for a slice.

    Args:
        place: the slice.
        lowered: by ``jax.jit``, with shardings over the slice's devices.

    Returns:
        What the compiler says of it, also where it does not fit into the memory.
    """
    import jax

    since = time.monotonic()
    share = len(place.devices) // place.chips
    try:
        compiled = _patiently(lowered.compile)
    except jax.errors.JaxRuntimeError as error:
        found = OVERFLOW.search(str(error))
        if found is None:
            raise
        needed, a, there, b = (text for text in found.groups() if text is not None)
        memory, capacity = (
            share * float(number) * UNITS[unit]
            for number, unit in ((needed, a), (there, b))
        )
        return Program(time.monotonic() - since, False, memory, capacity)
    seconds = time.monotonic() - since
    sizes, costs = compiled.memory_analysis(), compiled.cost_analysis()
    text = compiled.as_text()
    memory = (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
        + sizes.generated_code_size_in_bytes
    )
    return Program(
        seconds,
        True,
        share * memory,
        place.chip.memory,
        share * costs["flops"],
        share * costs["bytes accessed"],
        share * hlo.hbm_traffic(text),
        hlo.collectives(text),
        hlo.loops(text),
    )


def _patiently(run: Callable[[], Any]) -> Any:
    """Return what a function returns; say every half minute that it goes on.

    It runs in a thread of its own: a signal would wait for the compiler's end.
    """
    since, ended = time.monotonic(), program.in_background(run)
    while not futures.wait([ended], PATIENCE).done:
        program.tell(f"compiling for {time.monotonic() - since:.0f} s", sys.stderr)
    return ended.result()


def images_per_second(
    place: Topology, compiled: Program, images: int
) -> tuple[float, str]:
    """Return the rate that a slice can reach at most, and what bounds it.

    A step takes no less time than its operations at the peak of the chip, nor than what
    it moves at the bandwidth of the HBM. What chips tell each other is left out.

    Args:
        place: the slice.
        compiled: the training step.
        images: of a step, over all chips.
    """
    chip = place.chip
    return min(
        (images / seconds, bound)
        for seconds, bound in (
            (compiled.flops / chip.flops, "arithmetic"),
            # None, where all of a small program is on chip.
            (compiled.hbm / chip.bandwidth, "traffic with HBM"),
        )
        if seconds
    )


def describe(
    place: Topology,
    compiled: Program,
    *,
    images: int,
    held: Mapping[str, float],
    total_images: int = 0,
) -> str:
    """Say what a training step costs on a slice.

    Args:
        place: the slice.
        compiled: the step.
        images: of a step, over all chips.
        held: what each chip keeps between steps -> its bytes.
        total_images: of the run; 0: not known.

    Returns:
        Several lines.
    """
    chip, chips = place.chip, place.chips
    lines = [
        f"{place.name}: {chips} chips of {chip.memory / 2**30:.0f} GiB, "
        f"{chip.bandwidth / 1e9:,.0f} GB/s and {chip.flops / 1e12:,.0f} TFLOP/s "
        f"(bfloat16), {images / chips:g} images a step on each",
        f"compiled in {compiled.seconds:.0f} s by {version()}",
    ]
    sizes = (
        f"{compiled.memory / 2**30:.2f} GiB of {compiled.capacity / 2**30:.2f} GiB "
        "a chip"
    )
    share = len(place.devices) // chips
    rows = {name: share * size for name, size in held.items()}
    rows["activations, batch, program"] = compiled.memory - sum(rows.values())
    parts = [f"  {name:<30}{size / 2**20:>10,.1f} MiB" for name, size in rows.items()]
    if not compiled.fits:
        cure = "more chips, a smaller batch, --config.optimizer.accumulate"
        return "\n".join([*lines, f"it does not fit: {sizes}; take {cure}", *parts])
    rate, bound = images_per_second(place, compiled, images)
    counts = (f"{n} {kind}" for kind, n in sorted(compiled.collectives.items()))
    each = chips / images
    lines += [
        f"it fits: {sizes}",
        *parts,
        f"an image: {compiled.flops * each / 1e9:.3g} GFLOP, "
        f"{compiled.hbm * each / 1e6:.4g} MB from and to HBM "
        f"({compiled.traffic * each / 1e6:.4g} MB with what stays on chip)",
        f"collectives a step: {', '.join(counts) or 'none'}",
        f"at most {rate / chips:,.0f} images/s a chip, {rate:,.0f} in all, by its "
        f"{bound}",
    ]
    if total_images:
        least = progress.duration(total_images / rate)
        lines.append(f"the run's {total_images:,} images take {least} or more")
    if compiled.loops:
        lines.append(
            f"{compiled.loops} loop(s), of which one turn is counted: it costs more"
        )
    return "\n".join(lines)
