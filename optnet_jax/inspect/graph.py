"""The graph of a structure, read off the recurrence itself."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optnet_jax.errors import InputError
from optnet_jax.recurrences import (
    Coefficients,
    Recurrence,
    number_of_paths,
    takes_history,
)
from optnet_jax.recurrences.base import at_step, packed, unpacked
from optnet_jax.recurrences.iterate import first_state, prepared

_SMALLEST = 1e-7
"""Below this a weight is 0 that has been rounded."""

_ROUNDING = 1e-3
"""What two ways to compute one step may differ by."""


class NoGraphError(InputError):
    """A step is no sum of iterates and of T's."""


class Node(NamedTuple):
    """An iterate, or an application of T.

    Attributes:
        label: its name, TeX.
        column: when it is known, in steps.
        row: 0 for the output's iterates, other state variables below and above.
        is_transform: whether it is a T.
    """

    label: str
    column: float
    row: float
    is_transform: bool = False


class Edge(NamedTuple):
    """A term of a sum.

    Attributes:
        source: index of a node.
        target: index of a node.
        weight: its coefficient.
        through_transform: the term is weight T(source), with a T of its own.
    """

    source: int
    target: int
    weight: float
    through_transform: bool = False


class Structure(NamedTuple):
    """A directed graph without cycles.

    Attributes:
        nodes: in the order in which they are computed.
        edges: without those of weight 0.
    """

    nodes: list[Node]
    edges: list[Edge]


def recurrence_structure(
    recurrence: Recurrence, depth: int, coefficients: Coefficients | None = None
) -> Structure:
    """Return the graph of a recurrence: Figure 1 of the paper, from the code that runs.

    A step is linear in the state and in what T returns. So the weights are what it
    makes of unit vectors, and what the state merely remembers is the node that it
    copies. An activation after the sum is left out.

    A recurrence over the whole history has no nodes T: each pair of iterates may have
    an edge through a T of its own and a plain one.

    Args:
        recurrence: any :class:`~optnet_jax.recurrences.Recurrence`.
        depth: the number of steps.
        coefficients: learned ones, as they are trained, that replace the method's own.

    Raises:
        InputError: a depth that the recurrence has no coefficients for, learned ones
            that are not its own or not finite.
        NoGraphError: a step that is not linear, or applies T to another number of
            iterates than ``paths`` says; over the whole history, one that combines
            what is no iterate, or not once.
    """
    if getattr(recurrence, "post_activation", None) is not None:
        recurrence = dataclasses.replace(recurrence, post_activation=None)  # pyright: ignore
    values = dict(prepared(recurrence, depth, jnp.result_type(float)))
    for name, value in (coefficients or {}).items():
        own = values.get(name)
        try:
            # One that all steps share is an array of one entry.
            learned = np.broadcast_to(value, np.shape(packed(own)))
        except ValueError as error:
            raise InputError(
                f"a learned {name} of shape {np.shape(value)} is none of "
                f"{type(recurrence).__name__} with {depth} steps"
            ) from error
        if not np.isfinite(learned).all():
            raise InputError(f"the learned {name} has values that are not finite")
        values[name] = unpacked(learned, own)
    if takes_history(recurrence):
        return _history_structure(recurrence, depth, values)
    builder = _Builder(recurrence, depth)
    for k in range(depth):
        builder.add_step(k, at_step(values, k))
    return builder.structure()


def _history_structure(
    recurrence: Recurrence, depth: int, coefficients: Coefficients
) -> Structure:
    # Iterate x_j is the j-th unit vector, and the last one is what T returns: the next
    # iterate shows its terms, and then becomes a unit vector in all of the state.
    unit = jnp.eye(depth + 2)
    state = first_state(recurrence, unit[0])
    edges: list[Edge] = []
    for k in range(depth):
        read, state = _history_step(recurrence, state, unit, at_step(coefficients, k))
        through = [(int(jnp.argmax(x)), x, alpha) for x, alpha in sum(read, [])]
        if len(read) != 1 or not all(
            np.allclose(x, unit[j], atol=_ROUNDING) for j, x, _ in through
        ):
            raise NoGraphError(
                f"a step of {type(recurrence).__name__} applies T to what is no "
                "iterate, or not once: it has no graph of sums"
            )
        terms = recurrence.output(state)
        factor = float(terms[-1])
        edges += [Edge(j, k + 1, factor * alpha, True) for j, _, alpha in through]
        plain = terms.at[-1].set(0)
        edges += [Edge(j, k + 1, float(plain[j])) for j in range(k + 1)]
        if abs(factor) > _SMALLEST:
            new = (unit[k + 1] - plain) / factor
            state = _mapped(state, np.asarray(unit.at[-1].set(new)))
    nodes = [Node(f"x_{{{k}}}", k, 0) for k in range(depth + 1)]
    return Structure(nodes, [edge for edge in edges if abs(edge.weight) > _SMALLEST])


def _history_step(
    recurrence: Recurrence, state: Any, unit: jax.Array, c: Coefficients
) -> tuple[list, Any]:
    """Return what each combination reads, [(iterate, α), ...], and the new state."""

    def step(state: Any, returned: jax.Array) -> tuple[list, Any]:
        read = []

        def transform(sources: Any, alpha: Any = None) -> jax.Array:
            weights = np.ones(len(sources)) if alpha is None else np.asarray(alpha)
            read.append(list(zip(sources, weights.tolist(), strict=True)))
            return returned

        new = recurrence.step(transform, state, c)
        return read, new

    # What is linear commutes with a map of the space that the iterates are in.
    mix = np.random.default_rng(0).normal(size=unit.shape).astype(unit.dtype)
    found = step(state, unit[-1])
    elsewhere = step(_mapped(state, mix), jnp.asarray(mix[-1]))
    close = functools.partial(np.allclose, rtol=_ROUNDING, atol=_ROUNDING)
    if not jax.tree.all(jax.tree.map(close, elsewhere, _mapped(found, mix))):
        raise _not_linear(recurrence)
    return found


def _mapped(tree: Any, matrix: np.ndarray) -> Any:
    """Return a tree with its sums of iterates mapped; what counts steps stays."""

    def mapped(v: Any) -> Any:
        # Of NumPy, as a GPU rounds what a product reads.
        is_sum = np.shape(v)[-1:] == matrix.shape[:1]
        return jnp.asarray(np.asarray(v) @ matrix) if is_sum else v

    return jax.tree.map(mapped, tree)


def _not_linear(recurrence: Recurrence) -> NoGraphError:
    return NoGraphError(
        f"a step of {type(recurrence).__name__} is not linear in its state and in T: "
        "it has no graph of sums"
    )


class _Builder:
    """Unrolls the steps into nodes and edges.

    A step is run on unit vectors of the entries that the state of a scalar x has and of
    what the T's return: what becomes of them are its coefficients. An entry is a
    multiple of a node: a new one is made only for what is not one already.
    """

    def __init__(self, recurrence: Recurrence, depth: int):
        self._recurrence = recurrence
        self._paths = number_of_paths(recurrence)
        self._state, longer = (first_state(recurrence, jnp.ones(n)) for n in (1, 2))
        # What is no longer for a longer x counts steps.
        self._is_entry = [
            jnp.issubdtype(a.dtype, jnp.floating) and a.size < b.size
            for a, b in zip(*map(jax.tree.leaves, (self._state, longer)), strict=True)
        ]
        initial = jnp.hstack([a.ravel() for a in self._parts(self._state, True)])
        self._size = len(initial)
        self._units = jnp.eye(self._size + self._paths)
        self._step = jax.jit(self._steps)
        self._nodes = [Node("x_{0}", 0, 0)]
        self._edges: list[Edge] = []
        # Of the entries, and then of the T's, over the nodes.
        self._values = np.zeros((len(self._units), 1 + depth * len(self._units)))
        self._values[: self._size, 0] = initial
        self._memory: dict[int, int] = {}

    def add_step(self, k: int, c: Coefficients) -> None:
        """Add the nodes of step k."""
        results, states = self._step(self._units, self._state, c)
        results = np.asarray(results)
        self._check_linear(results, c)
        self._state = jax.tree.map(lambda a: a[0], states)
        inputs, new = results[: self._paths], results[self._paths :]
        for m in range(self._paths):
            prime, row = ("'", 1) if (m, self._paths) == (0, 2) else ("", 0)
            node = Node(f"T{prime}_{{{k}}}", k + 0.5, row, True)
            # A T may read what the one before it returned.
            self._values[self._size + m] = self._add(node, inputs[m] @ self._values)
        is_output = self._holds(self._recurrence.output)
        values = new @ self._values
        for i, terms in enumerate(values):
            nodes = _nonzero(terms)
            of_transform = any(self._nodes[node].is_transform for node in nodes)
            if len(nodes) > 1 or (is_output[i] and of_transform):
                node = self._iterate(i, k + 1, is_output, inputs)
                values[i] = self._add(node, terms)
        self._values[: self._size] = values

    def structure(self) -> Structure:
        """Return the graph without what never reaches the output."""
        outputs = self._values[: self._size][self._holds(self._recurrence.output)]
        wanted = {0, *_nonzero(np.abs(outputs).sum(0))}
        for edge in reversed(self._edges):  # targets come before their sources
            if edge.target in wanted:
                wanted.add(edge.source)
        index = {node: i for i, node in enumerate(sorted(wanted))}
        edges = [
            Edge(index[e.source], index[e.target], e.weight)
            for e in self._edges
            if e.target in wanted
        ]
        return Structure([self._nodes[node] for node in index], edges)

    def _steps(self, units: Any, state: Any, c: Coefficients) -> tuple[Any, Any]:
        """Return what the T's read and then the new entries, and the new states."""

        def step(unit: Any) -> tuple[Any, Any]:
            read = []

            def transform(x: Any) -> Any:
                read.append(x)
                return unit[min(self._size + len(read), len(unit)) - 1].reshape(x.shape)

            new = self._recurrence.step(transform, self._filled(state, unit), c)
            if len(read) != self._paths:
                raise NoGraphError(
                    f"a step of {type(self._recurrence).__name__} applies T "
                    f"{len(read)} times, and to {self._paths} of its iterates: it has "
                    "no graph of sums"
                )
            parts = (*read, *self._parts(new, True))
            return jnp.hstack([jnp.ravel(part) for part in parts]), new

        return jax.vmap(step, in_axes=1, out_axes=(1, 0))(units)

    def _check_linear(self, results: np.ndarray, c: Coefficients) -> None:
        """Refuse a step that is another one elsewhere, such as Anderson's."""
        elsewhere = np.random.default_rng(0).normal(size=self._units.shape)
        units = jnp.asarray(elsewhere, self._units.dtype)
        found, states = self._step(units, self._state, c)
        counts = map(np.asarray, self._parts(states, False))
        wanted = results @ elsewhere
        if not np.allclose(found, wanted, rtol=_ROUNDING, atol=_ROUNDING) or any(
            np.any(count != count[0]) for count in counts
        ):
            raise _not_linear(self._recurrence)

    def _parts(self, state: Any, entries: bool) -> list[Any]:
        """Return a state's arrays that have entries, or those that count steps."""
        leaves = zip(jax.tree.leaves(state), self._is_entry, strict=True)
        return [leaf for leaf, is_entry in leaves if is_entry == entries]

    def _filled(self, state: Any, unit: Any) -> Any:
        """Return a state with other entries; what counts steps stays."""
        leaves, tree = jax.tree.flatten(state)
        for i, leaf in enumerate(leaves):
            if self._is_entry[i]:
                leaves[i], unit = (
                    unit[: leaf.size].reshape(leaf.shape),
                    unit[leaf.size :],
                )
        return jax.tree.unflatten(tree, leaves)

    def _holds(self, read: Any) -> np.ndarray:
        """Return for each entry whether what is read of the state contains it now."""
        found = jax.vmap(lambda unit: read(self._filled(self._state, unit)))(
            self._units
        )
        return np.asarray(found != 0)[: self._size, 0]

    def _iterate(
        self, i: int, k: int, is_output: np.ndarray, inputs: np.ndarray
    ) -> Node:
        """Name entry i: x' and x as the method says, or as the two T read them."""
        iterates = getattr(self._recurrence, "iterates", None)
        is_prime = is_x = False
        if self._paths == 2:
            if iterates is not None:
                paths = (lambda s: iterates(s)[0], lambda s: iterates(s)[1])
                is_prime, is_x = (self._holds(path)[i] for path in paths)
            if not (is_prime or is_x):
                is_prime = inputs[0, i] and not inputs[1, i]
        if is_prime and not is_x:
            return Node(f"x'_{{{k}}}", k, 1)
        if is_x or is_output[i] or inputs[-1, i]:
            return Node(f"x_{{{k}}}", k, 0)
        row = self._memory.setdefault(i, len(self._memory))
        return Node(f"{'uvw'[row % 3]}_{{{k}}}", k, -1 - row)

    def _add(self, node: Node, terms: np.ndarray) -> np.ndarray:
        """Add a node that is a sum of others; return it as one of itself."""
        target = len(self._nodes)
        self._nodes.append(node)
        self._edges += [Edge(j, target, float(terms[j])) for j in _nonzero(terms)]
        return np.eye(1, len(terms), target)[0]


def _nonzero(weights: np.ndarray) -> list[int]:
    return np.flatnonzero(np.abs(weights) > _SMALLEST).tolist()
