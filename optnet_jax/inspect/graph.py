"""The graph of a structure, read off the recurrence itself."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from optnet_jax.errors import InputError
from optnet_jax.recurrences import (
    Coefficients,
    Recurrence,
    number_of_paths,
    takes_history,
)
from optnet_jax.recurrences.base import at_step, packed, unpacked

_SMALLEST = 1e-7
"""Below this a weight is 0 that has been rounded."""


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

    A step is linear in the state and in what T returns. So the weights are its
    Jacobian, and what the state merely remembers is the node that it copies. An
    activation after the sum is left out.

    A recurrence over the whole history has no nodes T: each pair of iterates may have
    an edge through a T of its own and a plain one.

    Args:
        recurrence: any :class:`~optnet_jax.recurrences.Recurrence`.
        depth: the number of steps.
        coefficients: learned ones, as they are trained, that replace the method's own.

    Raises:
        InputError: a depth that the recurrence has no coefficients for, learned ones
            that are not its own or not finite.
        NoGraphError: a step that is not linear.
    """
    if getattr(recurrence, "post_activation", None) is not None:
        recurrence = dataclasses.replace(recurrence, post_activation=None)  # pyright: ignore
    values = dict(recurrence.coefficients(depth))
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
    builder = _Builder(_Probe(recurrence))
    for k in range(depth):
        builder.add_step(k, {name: jnp.asarray(v[k]) for name, v in values.items()})
    return builder.structure()


def _history_structure(
    recurrence: Recurrence, depth: int, coefficients: Coefficients
) -> Structure:
    # Iterate x_j is the j-th unit vector, and the last one is what T returns: the next
    # iterate shows its terms, and then becomes a unit vector in all of the state.
    unit = jnp.eye(depth + 2)
    state = recurrence.init(unit[0])
    edges: list[Edge] = []
    transformed: dict[int, float] = {}

    def transform(sources: Any, alpha: Any = None) -> jax.Array:
        weights = np.ones(len(sources)) if alpha is None else np.asarray(alpha)
        indices = [int(jnp.argmax(jnp.abs(source))) for source in sources]
        transformed.update(zip(indices, weights.tolist(), strict=True))
        return unit[-1]

    for k in range(depth):
        transformed.clear()
        state = recurrence.step(transform, state, at_step(coefficients, k))
        terms = recurrence.output(state)
        factor = float(terms[-1])
        edges += [Edge(j, k + 1, factor * w, True) for j, w in transformed.items()]
        plain = terms.at[-1].set(0)
        edges += [Edge(j, k + 1, float(plain[j])) for j in range(k + 1)]
        new = (unit[k + 1] - plain) / factor - unit[-1]
        state = jax.tree.map(lambda v, new=new: v + v[-1] * new, state)
    nodes = [Node(f"x_{{{k}}}", k, 0) for k in range(depth + 1)]
    return Structure(nodes, [edge for edge in edges if abs(edge.weight) > _SMALLEST])


class _Probe:
    """A recurrence as matrices over the entries of its state, for a scalar x.

    Attributes:
        initial: each entry of the first state as a multiple of x_0.
        paths: how often a step applies T.
    """

    def __init__(self, recurrence: Recurrence):
        self._recurrence = recurrence
        self.paths = number_of_paths(recurrence)
        state = recurrence.init(jnp.ones(1))
        entries, self._state = ravel_pytree(state)
        counts = jax.tree.map(
            lambda a: jnp.full(jnp.shape(a), not jnp.issubdtype(a.dtype, jnp.floating)),
            state,
        )
        self._is_count = ravel_pytree(counts)[0]
        self.initial = np.where(self._is_count, 0, entries)
        # Steps are linear in what is no count of them, so they are taken at 0.
        self._at = jnp.where(self._is_count, entries, 0)
        self._jacobian = jax.jit(jax.jacfwd(self._step, argnums=(0, 1), has_aux=True))

    def is_output(self) -> np.ndarray:
        """Return for each entry whether the output contains it now."""
        output = jax.jacfwd(lambda s: self._recurrence.output(self._state(s)))
        return np.any(np.asarray(output(self._at)) != 0, axis=0)

    @functools.cached_property
    def of_paths(self) -> np.ndarray:
        """Whether each entry is of x' and of x, [2, entries]."""
        iterates = getattr(self._recurrence, "iterates", None)
        if self.paths == 1 or iterates is None:
            return np.zeros((2, len(self._at)), bool)
        paths = jax.jacfwd(lambda s: iterates(self._state(s)))(self._at)
        return np.array([np.any(np.asarray(path) != 0, axis=0) for path in paths])

    def step(self, c: Any) -> tuple[np.ndarray, ...]:
        """Return the weights of old entries and T's in new entries and in T's inputs.

        Returns:
            (entries by entries), (entries by T's), (T's by entries), (T's by T's).
        """
        jacobians, new = self._jacobian(self._at, jnp.zeros(self.paths), c)
        self._check_linear(jacobians[0], new, c)
        self._at = jnp.where(self._is_count, new, 0)
        (new_s, new_t), (input_s, input_t) = jacobians
        return tuple(np.asarray(m) for m in (new_s, new_t, input_s, input_t))

    def _check_linear(self, slopes: tuple, at_0: Any, c: Any) -> None:
        """Refuse a step that is another one elsewhere, such as Anderson's."""
        rng = np.random.default_rng(0)
        there = np.where(self._is_count, 0, rng.normal(size=len(self._at)))
        transformed = rng.normal(size=self.paths)
        _, found = self._step(self._at + there, jnp.asarray(transformed), c)
        expected = at_0 + slopes[0] @ there + slopes[1] @ transformed
        if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
            raise NoGraphError(
                f"a step of {type(self._recurrence).__name__} is not linear in its "
                "state and in T: it has no graph of sums"
            )

    def _step(self, entries: Any, transformed: Any, c: Any) -> tuple:
        inputs = []

        def transform(x: Any) -> Any:
            inputs.append(x.reshape(()))
            return transformed[len(inputs) - 1].reshape(x.shape)

        state = self._recurrence.step(transform, self._state(entries), c)
        new = ravel_pytree(state)[0]
        return (new, jnp.stack(inputs)), new


class _Builder:
    """Unrolls the steps into nodes and edges.

    An entry of the state is a multiple of a node, (node, multiple): a new node is made
    only for what is not one already.
    """

    def __init__(self, probe: _Probe):
        self._probe = probe
        self._nodes = [Node("x_{0}", 0, 0)]
        self._edges: list[Edge] = []
        self._entries = [(0, float(c)) for c in probe.initial]
        self._memory: dict[int, int] = {}

    def add_step(self, k: int, c: Coefficients) -> None:
        """Add the nodes of step k."""
        new_s, new_t, input_s, input_t = self._probe.step(c)
        transforms: list[tuple[int, float]] = []
        for m in range(self._probe.paths):
            terms = self._terms(input_s[m], self._entries)
            # A T may read what the one before it returned.
            terms |= self._terms(input_t[m, :m], transforms)
            prime, row = ("'", 1) if (m, self._probe.paths) == (0, 2) else ("", 0)
            node = Node(f"T{prime}_{{{k}}}", k + 0.5, row, True)
            transforms.append((self._add(node, terms), 1.0))
        is_output = self._probe.is_output()
        entries = []
        for i in range(len(self._entries)):
            terms = self._terms(new_s[i], self._entries)
            for node, weight in self._terms(new_t[i], transforms).items():
                terms[node] = terms.get(node, 0.0) + weight
            (node, weight), *more = terms.items() or [(0, 0.0)]
            if more or (is_output[i] and self._nodes[node].is_transform):
                node = self._add(self._iterate(i, k + 1, is_output, input_s), terms)
                weight = 1.0
            entries.append((node, weight))
        self._entries = entries

    def structure(self) -> Structure:
        """Return the graph without what never reaches the output."""
        is_output = self._probe.is_output()
        wanted = {
            node for (node, _), out in zip(self._entries, is_output, strict=True) if out
        }
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

    def _iterate(
        self, i: int, k: int, is_output: np.ndarray, input_s: np.ndarray
    ) -> Node:
        """Name entry i: x' and x as the method says, or as the two T read them."""
        is_prime, is_x = self._probe.of_paths[:, i]
        if not (is_prime or is_x) and self._probe.paths == 2:
            is_prime, is_x = input_s[0, i] and not input_s[1, i], False
        if is_prime and not is_x:
            return Node(f"x'_{{{k}}}", k, 1)
        if is_x or is_output[i] or input_s[-1, i]:
            return Node(f"x_{{{k}}}", k, 0)
        row = self._memory.setdefault(i, len(self._memory))
        return Node(f"{'uvw'[row % 3]}_{{{k}}}", k, -1 - row)

    def _add(self, node: Node, terms: dict[int, float]) -> int:
        self._nodes.append(node)
        target = len(self._nodes) - 1
        self._edges += [Edge(source, target, w) for source, w in terms.items()]
        return target

    def _terms(
        self, weights: np.ndarray, values: list[tuple[int, float]]
    ) -> dict[int, float]:
        terms: dict[int, float] = {}
        for weight, (node, multiple) in zip(weights, values, strict=True):
            terms[node] = terms.get(node, 0.0) + float(weight) * multiple
        return {node: w for node, w in terms.items() if abs(w) > _SMALLEST}
