"""Figure 1 of the paper, drawn from the coefficients that a network has.

>>> from optnet_jax.networks import create
>>> from optnet_jax.inspect.figure import draw_network
>>> draw_network(create("hb_net20"), "hb_net20.png")  # doctest: +SKIP

Circles are iterates, boxes the operators T. Red terms are added, blue ones subtracted,
wider is more, on one scale in a figure. Over the whole history, arcs above pass through
a T of their own and arcs below are the plain terms of (18); each kind is as wide as its
own largest weight allows, and a stage with too many arcs to follow is drawn as its two
matrices of coefficients.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from optnet_jax.errors import InputError
from optnet_jax.inspect.graph import Edge, Structure, recurrence_structure
from optnet_jax.runs import picture

_LABELLED_EDGES = 24
"""Up to this many edges a drawing says their weights in numbers."""

_FOLLOWED_ARCS = 60
"""Above this many arcs over one another nobody can follow them."""

_MATRICES_WIDTH = 6
"""Columns of a graph that two matrices side by side take."""


def network_structures(
    network: Any, params: Mapping[str, Any] | None = None
) -> dict[str, Structure]:
    """Return the graph of each stage of a network.

    Args:
        network: one that says by a method ``propagations`` what recurrences it runs, as
            :class:`~optnet_jax.networks.recurrence_net.RecurrenceNet` does.
        params: trained parameters, for learned coefficients; None: their initial
            values.

    Returns:
        Stage -> its graph; a stage that is a transition alone has none.

    Raises:
        InputError: a network without such stages, or params that lack one of its
            learned coefficients.
    """
    propagations = getattr(network, "propagations", dict)()
    if not propagations:
        raise InputError(
            f"{type(network).__name__} has no stages to draw: choose a network that "
            f"runs a recurrence, such as an HB-Net or an AGD-Net"
        )
    flat: Any = flatten_dict(dict(params or {}))
    structures, tops = {}, [path[0] for path in propagations]
    for path, (recurrence, depth) in propagations.items():
        learned = {}
        for name in () if params is None else network.learned:
            if (*path, name) not in flat:
                raise InputError(
                    f"the params lack the learned {'/'.join((*path, name))}: give "
                    "variables['params'], of a network that learns the same"
                )
            learned[name] = flat[*path, name]
        title = path[0] if tops.count(path[0]) == 1 else "/".join(path)
        structures[title.replace("_", " ")] = recurrence_structure(
            recurrence, depth, learned
        )
    return structures


def draw_network(
    network: Any,
    file: str | pathlib.Path,
    params: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Draw the structure of each stage; see :func:`network_structures`.

    Raises:
        InputError: a network without such stages, or params that lack one of its
            learned coefficients.
    """
    return draw(network_structures(network, params), file)


def draw(structures: Mapping[str, Structure], file: str | pathlib.Path) -> pathlib.Path:
    """Draw graphs one under the other.

    Args:
        structures: title -> graph.
        file: where to write; its ending decides the format.
    """
    from matplotlib.figure import Figure

    last = max(
        max(n.column for n in s.nodes) if _is_followed(s) else _MATRICES_WIDTH
        for s in structures.values()
    )
    edges = [edge for structure in structures.values() for edge in structure.edges]
    largest = {
        kind: max(abs(e.weight) for e in edges if e.through_transform == kind)
        for kind in {edge.through_transform for edge in edges}
    }
    heights = [_height(s) for s in structures.values()]
    figure = Figure((2 + 1.1 * last, sum(heights)), layout="constrained")
    rows = figure.subfigures(
        len(structures), 1, squeeze=False, height_ratios=heights
    ).flat
    for row, (title, structure) in zip(rows, structures.items(), strict=True):
        row.suptitle(title, x=0.02, ha="left", fontsize=10)
        if _is_followed(structure):
            _draw_structure(row.subplots(), structure, largest, last)
        else:
            _draw_matrices(row, structure, largest)
    return picture.save(figure, pathlib.Path(file), 150)


def _draw_structure(
    axis: Any, structure: Structure, largest: Mapping[bool, float], last: float
) -> None:
    """Draw a graph up to column ``last``; ``largest``: widest weights by kind."""
    labelled = len(structure.edges) <= _LABELLED_EDGES
    for edge in structure.edges:
        share = edge.weight / largest[edge.through_transform]
        _draw_edge(axis, structure, edge, share, labelled)
    for node in structure.nodes:
        axis.text(
            node.column,
            node.row,
            f"${node.label}$",
            ha="center",
            va="center",
            fontsize=8,
            zorder=3,
            bbox={
                "boxstyle": "round,pad=0.3" if node.is_transform else "circle,pad=0.2",
                "facecolor": "#e8e8e8" if node.is_transform else "white",
                "edgecolor": "black",
            },
        )
    low, high = _extent(structure)
    # The arcs are bent on the page, their labels placed in the graph's units.
    axis.set(xlim=(-0.4, last + 0.4), ylim=(low - 0.4, high + 0.4), aspect="equal")
    axis.axis("off")


def _is_followed(structure: Structure) -> bool:
    arcs = len(structure.edges)
    return arcs <= _FOLLOWED_ARCS or not _has_own_transforms(structure)


def _has_own_transforms(structure: Structure) -> bool:
    return any(edge.through_transform for edge in structure.edges)


def _draw_matrices(
    row: Any, structure: Structure, largest: Mapping[bool, float]
) -> None:
    """Draw the coefficients of a recurrence over the whole history, (18), in colour.

    The row is the iterate that is computed, the column the one that is read.
    """
    size = len(structure.nodes)
    kinds = [kind for kind in (True, False) if kind in largest]
    for kind, axis in zip(
        kinds, row.subplots(1, len(kinds), squeeze=False)[0], strict=True
    ):
        matrix = np.full((size, size), np.nan)
        for edge in structure.edges:
            if edge.through_transform == kind:
                matrix[edge.target, edge.source] = edge.weight
        limit = largest[kind]
        image = axis.imshow(matrix[1:, :-1], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(
            title="α, of T(x)" if kind else "β, of x",
            xlabel="read: x of step",
            ylabel="computed: x of step",
        )
        step = max(1, (size - 1) // 6)
        axis.set_xticks(range(0, size - 1, step))
        axis.set_yticks(range(0, size - 1, step), range(1, size, step))
        row.colorbar(image, ax=axis, shrink=0.8)


def _draw_edge(
    axis: Any, structure: Structure, edge: Edge, share: float, labelled: bool
) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import FancyArrowPatch

    source, target = structure.nodes[edge.source], structure.nodes[edge.target]
    color = colormaps["RdBu_r"](0.5 + 0.5 * np.sign(share) * (0.35 + 0.65 * abs(share)))
    bend = _bend(structure, edge)
    # arc3 puts the control point rad × length to the right of the way.
    length = target.column - source.column
    arrow = FancyArrowPatch(
        (source.column, source.row),
        (target.column, target.row),
        connectionstyle=f"arc3,rad={-2 * bend / max(length, 1e-9)}",
        arrowstyle="-|>",
        mutation_scale=8,
        shrinkA=9,
        shrinkB=9,
        linewidth=0.4 + 1.6 * abs(share),
        color=color,
    )
    axis.add_patch(arrow)
    if labelled:
        axis.text(
            (source.column + target.column) / 2,
            (source.row + target.row) / 2 + bend,
            f"{edge.weight:.3g}",
            fontsize=6,
            ha="center",
            va="center",
            color=color,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            zorder=2,
        )


def _bend(structure: Structure, edge: Edge) -> float:
    """Return how far above the straight way an edge passes at half of it."""
    source, target = structure.nodes[edge.source], structure.nodes[edge.target]
    span = target.column - source.column
    if edge.through_transform:
        return 0.12 + 0.16 * span
    if _has_own_transforms(structure):
        return -0.12 - 0.16 * span
    if source.row != target.row:
        return 0.0
    crossed = (
        n.row == source.row and source.column < n.column < target.column
        for n in structure.nodes
    )
    outwards = 1 if source.row > 0 else -1
    return 0.3 * outwards * span if any(crossed) else 0.0


def _extent(structure: Structure) -> tuple[float, float]:
    """Return the lowest and highest point of the drawing."""
    rows = [node.row for node in structure.nodes]
    bends = [_bend(structure, edge) for edge in structure.edges]
    low, high = min(rows), max(rows)
    return low + min([0.0, *bends]), high + max([0.0, *bends])


def _height(structure: Structure) -> float:
    if not _is_followed(structure):
        return 4.5
    low, high = _extent(structure)
    return 1.1 * (high - low + 0.8) + 0.3
