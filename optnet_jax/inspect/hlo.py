"""What the text of a program that a TPU's compiler wrote says of it."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)
INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%([\w.-]+) = (.+?) ([a-z][a-z-]*)\((.*?)\)(?:, |$)", re.MULTILINE
)
"""Name, type, operation and operands, whose types are not printed."""

ARRAY = re.compile(
    r"([a-z]+\d*)\w*\[([\d,]*)\](?:\{([\d,]*):?(?:T\(([\d,]+)\))?(.*?)\})?"
)
"""An array's type, such as ``bf16[64,7,7,512]{3,0,2,1:T(8,128)(2,1)S(1)}``: kind of
number, shape, order of the axes in memory, tiles that it consists of, memory."""

MOVE_NOTHING = re.compile(
    "parameter|constant|tuple|get-tuple-element|bitcast|while|conditional|.*-done"
)
"""Operations that are names, or of which the traffic is another's."""


class Array(NamedTuple):
    """An array in memory: its bytes, and whether they are in HBM or on chip."""

    size: int
    in_hbm: bool


def collectives(text: str) -> Counter[str]:
    """Return kind -> number of a program's operations between chips."""
    return Counter(COLLECTIVE.findall(text))


def loops(text: str) -> int:
    """Return how many loops there are."""
    return text.count(" while(")


def hbm_traffic(text: str) -> int:
    """Return the bytes that a program reads from HBM and writes to it.

    Every operation of the program reads its operands whole and writes its results, as
    large as their layouts make them: an axis of 64 channels along a register's 128
    lanes counts twice. What a layout puts into on-chip memory, ``S(1)``, is left out.
    A copy moves what it takes from one to the other. The body of a loop and of a branch
    is left out as well.
    """
    entry = text[text.index("\nENTRY") :]
    total, types = 0, {}
    for name, types[name], operation, operands in INSTRUCTION.findall(entry):
        if MOVE_NOTHING.fullmatch(operation):
            continue
        results = list(arrays(types[name]))
        if operation in ("copy-start", "slice-start"):
            # Both ends are in its type; of a slice, the source is larger.
            ends = results[:2]
            total += min(end.size for end in ends) * sum(end.in_hbm for end in ends)
            continue
        for operand in re.findall(r"%([\w.-]+)", operands):
            results += arrays(types.get(operand, ""))
        total += sum(array.size for array in results if array.in_hbm)
    return total


def arrays(kind: str) -> Iterator[Array]:
    """Return the arrays of a type, of which a tuple has several."""
    for number, shape, order, tile, rest in ARRAY.findall(kind):
        sizes = [int(size) for size in shape.split(",") if size]
        axes = [int(axis) for axis in order.split(",") if axis]
        tiles = [int(size) for size in tile.split(",") if size]
        for axis, length in zip(axes, reversed(tiles), strict=False):
            sizes[axis] = math.ceil(sizes[axis] / length) * length
        bits = int(re.sub(r"\D", "", number) or 8)  # pred has none
        yield Array(math.prod(sizes) * bits // 8, "S(" not in rest)
