"""A recurrence as a linen module: the structures (7), (11)-(14), (16)-(18), (20)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core.scope import intersect_filters, subtract_filters
from flax.typing import Out

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Coefficients, Recurrence, State
from optnet_jax.recurrences.base import (
    check_depth,
    check_recurrence,
    coefficients_of,
    number_of_paths,
    packed,
    takes_history,
    unpacked,
)
from optnet_jax.recurrences.iterate import (
    as_start,
    first_state,
    prepared,
    run_over_history,
)
from optnet_jax.structures import fields, template
from optnet_jax.structures.checks import (
    check_constant,
    check_history,
    check_operators,
    check_shared,
    check_skips,
)
from optnet_jax.structures.inputs import Inputs, split
from optnet_jax.structures.layer import EachLayer, Layer, in_turn, part_of


class Propagation(nn.Module):
    """x_0 ↦ x_K: ``depth`` layers, each a step of ``recurrence`` over ``transform``.

    >>> import jax, jax.numpy as jnp
    >>> from optnet_jax.recurrences import heavy_ball
    >>> from optnet_jax.structures import FullyConnected
    >>> network = Propagation(heavy_ball(0.3), FullyConnected(), depth=10)
    >>> variables = network.init(jax.random.key(0), jnp.ones(4))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'layers': {'transform': {'linear': {'kernel': (10, 4, 4)}}}}

    Attributes:
        recurrence: the method, anything with the four methods of
            :class:`~optnet_jax.recurrences.Recurrence`.
        transform: T, a linen module (a template: each layer has a copy of its own) or a
            function without parameters, [..., n] or [B, H, W, C] to the same shape. For
            a recurrence over the whole history it is the combination ((x_0, ..., x_k),
            alpha) ↦ Σ_j α_j T_{k+1,j}(x_j), alpha None for ones, which may have another
            number of channels; :class:`~optnet_jax.structures.Pairwise` makes one of T.
            A tuple holds several T of a method of one path, over which each layer takes
            a step in turn (Lie-Trotter splitting): a transformer's attention and MLP.
            :class:`EachLayer` holds one of all these for each layer.
        depth: the number of layers K; with n transforms in turn the method takes n K
            steps, and has coefficients for each.
        tied: one set of weights for all layers (§5.1) instead of one for each (§5.2).
        learned: names of coefficients that are trained ("adaptive coefficients", §6),
            from the method's own values on: parameters [depth] beside ``layers``; rows
            of unequal length are one parameter, one after the other.
        shared: a coefficient that is trained is one number for all layers, a parameter
            [1], as (16) and (17) print it.
        drop_path: probability that a layer leaves an example, an entry of axis 0 where
            x has more than one axis, without its T (stochastic depth): T(x) becomes
            m T(x) / (1 - drop_path), m 0 or 1 from the rng ``dropout``; a tuple has one
            for each layer. For training; 0 is off.
        separate_paths: each path of a two-path method has weights of its own.
        unroll: write the layers out instead of scanning them. Untied, their parameters
            are then ``layer_0``, ``layer_1``, ... instead of ``layers`` with a leading
            axis of depth. The compile time of the scanned form does not grow with
            depth. A recurrence over the whole history is written out always.
        remat: recompute each layer in the backward pass instead of storing what is
            inside it.

    Raises:
        InputError: fields that do not fit together, when the module is made.
    """

    recurrence: Recurrence
    transform: Any
    depth: fields.Depth
    tied: bool = False
    learned: fields.Learned = ()
    shared: bool = False
    drop_path: fields.Rate | tuple[fields.Rate, ...] = 0.0
    separate_paths: bool = False
    unroll: bool = False
    remat: bool = False

    def __post_init__(self):
        fields.check(Propagation, vars(self))
        check_recurrence(self.recurrence)
        check_operators(self)
        if template.holds_module(getattr(self.recurrence, "__dict__", None)):
            raise InputError(
                f"a field of {type(self.recurrence).__name__} is a module, which all "
                f"layers would share: give a function without parameters"
            )
        if takes_history(self.recurrence):
            check_history(self)
        check_shared(self)
        if self.drop_path:
            check_skips(self.recurrence, self.depth * len(in_turn(self.of_layer())))
            if np.ndim(self.drop_path) and np.size(self.drop_path) != self.depth:
                raise InputError(
                    f"drop_path has {np.size(self.drop_path)} probabilities for "
                    f"{self.depth} layers: give one for each, or one for all"
                )
        super().__post_init__()

    @nn.nowrap
    def of_layer(self, k: int = 0) -> Any:
        """Return the transform of layer k, or a tuple of those that it has in turn."""
        one = self.transform
        return one.transforms[k] if isinstance(one, EachLayer) else one

    @property
    def steps(self) -> int:
        """How many steps the method takes."""
        return check_depth(self.depth) * len(in_turn(self.of_layer()))

    @nn.compact
    def __call__(
        self,
        x0: Any,
        previous: jax.Array | None = None,
        trajectory: bool = False,
        both_paths: bool = False,
        **inputs: Any,
    ) -> Any:
        """Return x_K.

        Args:
            x0: the input x_0; for a two-path method also a pair (x'_0, x_0).
            previous: x_{-1} for a recurrence that remembers one iterate; None: x_0.
            trajectory: return x_0, ..., x_K on a leading axis instead; of a recurrence
                over the whole history as a tuple, since x_0 may have other channels.
            both_paths: return the iterate of each path instead: (x_K,), or (x'_K, x_K)
                of a two-path method.
            inputs: what T takes beside x, by name, the same in all layers: a flag, a
                mask, an injected input, pytrees of them. Of a random key, one that
                ``jax.random.key`` has made, each layer has one of its own, which both
                paths of a method of two share; what linen's ``make_rng`` draws differs
                anyway.

        Raises:
            InputError: depth < 1, a learned name that is no coefficient, inputs that T
                does not take, a key of ``jax.random.PRNGKey`` among them, a transform
                that changes the shape, or a trajectory of both paths.
        """
        if trajectory and both_paths:
            raise InputError(
                "a trajectory is of the output, and both_paths of the last iterates: "
                "ask for one of them"
            )
        x0 = as_start(self.recurrence, x0)
        dtype = jax.tree.leaves(x0)[0].dtype
        coefficients = self._coefficients(dtype)
        if previous is not None:
            previous = jnp.asarray(previous, dtype)
        state = first_state(self.recurrence, x0, previous)
        first, history = self.recurrence.output(state), takes_history(self.recurrence)
        arguments = ("sources", "alpha") if history else ("x",)
        taken = split(in_turn(self.of_layer()), inputs, self.steps, arguments)
        if isinstance(self.of_layer(), tuple):
            coefficients, keys = jax.tree.map(
                lambda a: a.reshape(self.depth, -1, *a.shape[1:]),
                (coefficients, taken.keys),
            )
            taken = taken._replace(keys=keys)
        layers = self._unrolled if self.unroll or history else self._scanned
        state, outputs = layers(state, coefficients, taken, trajectory)
        if both_paths:
            return self._iterates(state)
        if not trajectory:
            return self.recurrence.output(state)
        return outputs if history else jnp.concatenate([first[None], outputs])

    def _iterates(self, state: State) -> tuple:
        if number_of_paths(self.recurrence) == 1:
            return (self.recurrence.output(state),)
        iterates = getattr(self.recurrence, "iterates", lambda state: None)(state)
        if not isinstance(iterates, tuple) or len(iterates) != 2:
            raise InputError(
                f"{type(self.recurrence).__name__} has two paths: give it a method "
                f"iterates(state) that returns both"
            )
        return iterates

    def _coefficients(self, dtype: Any) -> Coefficients:
        coefficients = dict(prepared(self.recurrence, self.steps, dtype))
        for name in self.learned:
            if name not in coefficients:
                raise InputError(
                    f"{name!r} is no coefficient of {type(self.recurrence).__name__}: "
                    f"it has {', '.join(coefficients) or 'none'}"
                )
            value = coefficients[name]
            at_least = jnp.promote_types(dtype, jnp.float32)
            initial = jnp.asarray(packed(value), at_least)
            shape = initial.shape
            if self.shared:
                check_constant(self.recurrence, self.steps, name)
                initial = initial[:1]
            trained = self.param(name, lambda _, initial=initial: initial)
            coefficients[name] = unpacked(jnp.broadcast_to(trained, shape), value)
        return coefficients

    def _keep(self) -> jax.Array | None:
        """Return the probability that an example keeps T, [depth]; None: it does."""
        if not self.drop_path:
            return None
        keep = 1 - np.broadcast_to(self.drop_path, self.depth)
        return jnp.asarray(keep, jnp.float32)

    def _layer(
        self, layer_class: Any, name: str, inputs: Inputs, trajectory: bool, k: int = 0
    ) -> Any:
        transform = self.of_layer(k)
        return layer_class(
            recurrence=self.recurrence,
            transform=template.copy(transform),
            transform_prime=template.copy(transform) if self.separate_paths else None,
            inputs=functools.partial(inputs.join, inputs.moving, inputs.fixed),
            trajectory=trajectory,
            name=name,
        )

    def _unrolled(
        self, state: State, coefficients: Coefficients, inputs: Inputs, trajectory: bool
    ) -> tuple:
        if takes_history(self.recurrence):
            combinations = (self._combination(k, inputs) for k in range(self.depth))
            return run_over_history(self.recurrence, combinations, state, coefficients)
        layer_class = nn.remat(Layer) if self.remat else Layer
        make = functools.partial(
            self._layer, layer_class, inputs=inputs, trajectory=trajectory
        )
        layer = make("layers") if self.tied else None
        outputs = []
        for k in range(self.depth):
            step = part_of((coefficients, inputs.keys, self._keep()), k)
            state, output = (layer or make(f"layer_{k}", k=k))(state, *step)
            outputs.append(output)
        return state, jax.tree.map(lambda *xs: jnp.stack(xs), *outputs)

    def _combination(self, k: int, inputs: Inputs) -> Callable:
        keys = part_of(inputs.keys, k)
        named = inputs.join(inputs.moving, inputs.fixed, keys)

        def call(layer: Any, sources: tuple, alpha: Any) -> jax.Array:
            return layer(sources, alpha, **named)

        layer: Any = template.copy(self.of_layer(k))
        if isinstance(layer, nn.Module):
            layer = layer.clone(parent=self, name=f"layer_{k}")
            layer = functools.partial(nn.remat(call) if self.remat else call, layer)
        else:
            layer = functools.partial(call, layer)
            layer = jax.checkpoint(layer) if self.remat else layer

        def combine(sources: tuple, alpha: Any = None) -> jax.Array:
            y = layer(sources, alpha)
            if np.shape(y)[:-1] != np.shape(sources[0])[:-1]:
                raise InputError(
                    f"the combination of a history may change the channels alone, and "
                    f"this one maps {np.shape(sources[0])} to {np.shape(y)}"
                )
            return y

        return combine

    def _scanned(
        self, state: State, coefficients: Coefficients, inputs: Inputs, trajectory: bool
    ) -> tuple:
        # Inside a scan XLA cannot merge the recomputation with the forward pass.
        layer_class = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
        steps = (coefficients, inputs.keys, self._keep())
        if not self.tied:
            scanned = nn.scan(
                layer_class,
                length=self.depth,
                variable_axes={True: 0},
                split_rngs={True: True},
                # Of nn.with_partitioning: the layers' axis is not cut.
                metadata_params={nn.PARTITION_NAME: None},
            )
            return self._layer(scanned, "layers", inputs, trajectory)(state, *steps)
        mutable = self.scope.mutable if self.scope else False
        mutable = subtract_filters(mutable, "params")
        layer = self._layer(layer_class, "layers", inputs, trajectory)
        first = None
        if self.is_initializing():
            # A scan cannot create the running statistics that it carries.
            state, first = layer(state, *part_of(steps, 0))
            steps = part_of(steps, slice(1, None))
        # Running statistics pass from layer to layer while they are updated; what T
        # sows, in tuples that grow, is each layer's own; of init those of all but the
        # first are kept.
        carried = [
            name
            for name, variables in self.variables.items()
            if "layers" in variables and not _is_sown(variables)
        ]
        scanned = nn.scan(
            lambda layer, state, *step: layer(state, *step),
            length=self.depth - self.is_initializing(),
            variable_broadcast=subtract_filters(True, mutable),
            variable_carry=intersect_filters(mutable, carried),
            variable_axes={nn.DenyList("params"): Out(0)},  # of the rest
            split_rngs={"params": False, nn.DenyList("params"): True},
        )
        state, outputs = scanned(layer, state, *steps)
        if first is not None:
            outputs = jnp.concatenate([first[None], outputs])
        return state, outputs

    def described(self) -> str:
        """Return the method, its number of steps and the range of its coefficients."""
        values = coefficients_of(self.recurrence, self.steps)
        plural = "" if self.steps == 1 else "s"
        parts = [f"{self.steps} step{plural} of {type(self.recurrence).__name__}"]
        for name, value in values.items():
            learned = " learned" if name in self.learned else ""
            parts.append(f"{name} {_range(packed(value))}{learned}")
        return "; ".join(parts)


def _is_sown(variables: Any) -> bool:
    """Return whether a collection holds what linen's ``sow`` makes, tuples of one."""

    def is_one(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 1

    return any(map(is_one, jax.tree.leaves(variables, is_leaf=is_one)))


def _range(values: Any) -> str:
    values = np.asarray(values, float) + 0.0  # no -0
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low}..{high}"
