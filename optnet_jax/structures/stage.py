"""Block-based structures (§6): a transition to a new shape, then a recurrence in it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import Recurrence, number_of_paths
from optnet_jax.structures import fields, template
from optnet_jax.structures.propagation import Propagation
from optnet_jax.structures.reversible import ReversiblePropagation


class Stage(nn.Module):
    """A recurrence at one resolution, after a transition where the shape changes.

    The transition is one plain residual step, x_0 = Φ(T(x) + S(x)); for a two-path
    method x'_0 = T'(x') + s, x_0 = T(x) + s with the merged shortcut
    s = (S'(x') + S(x)) / 2, as DMRNet does it. Then the recurrence starts afresh.

    Attributes:
        recurrence: the method.
        transform: T at the stage's resolution, a template; see
            :class:`~optnet_jax.structures.Propagation`.
        depth: the number of steps after the transition; 0 is fine if there is one.
        transition: makes the module x ↦ (T(x), S(x)), ``transition(name=...)``, S(x)
            None for no shortcut; None where the input has the stage's shape already. It
            takes what T takes beside x.
        previous: x_{-1}: "shortcut", the S(x) of the transition; "same", x_0, the
            method's own start, which is also taken where there is no shortcut; or
            "zero".
        post_activation: Φ after the transition's sum.
        separate_paths: each path of a two-path method has weights of its own.
        tied: one set of weights for all steps.
        learned: names of coefficients that are trained.
        shared: as in :class:`~optnet_jax.structures.Propagation`.
        drop_path: likewise; the transition is never dropped.
        unroll: write the layers out instead of scanning them.
        remat: recompute each layer in the backward pass.
        reversible: recompute the iterates in the backward pass, see
            :class:`~optnet_jax.structures.ReversiblePropagation`.

    Raises:
        InputError: a field out of its range, or a stage without any unit.
    """

    recurrence: Recurrence
    transform: Callable[..., Any]
    depth: int
    transition: Callable[..., nn.Module] | None = None
    previous: str = "shortcut"
    post_activation: Callable[[Any], jax.Array] | None = None
    separate_paths: bool = False
    tied: bool = False
    learned: tuple[str, ...] = ()
    shared: bool = False
    drop_path: float | tuple[float, ...] = 0.0
    unroll: bool = False
    remat: bool = False
    reversible: bool = False

    def __post_init__(self):
        fields.check_module(self)
        if self.transition is None and self.depth < 1:
            raise InputError("a stage needs at least one unit")
        if template.holds_module(self.post_activation):
            raise InputError(
                "post_activation is a module, which all paths would share: give a "
                "function without parameters"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Any, **inputs: Any) -> Any:
        """Return the iterate of each path.

        Args:
            x: the iterates of the stage before, a tuple (x,) or (x', x); an array
                stands for all paths.
            inputs: what T takes beside x, by name, as in
                :class:`~optnet_jax.structures.Propagation`.

        Returns:
            (x_K,), or (x'_K, x_K) of a two-path method.
        """
        paths = number_of_paths(self.recurrence)
        x = x if isinstance(x, tuple) else (x,) * paths
        shortcut = None
        if self.transition is not None:
            x, shortcut = self._change_shape(self.transition, x, inputs)
        if not self.depth:
            return x
        x0 = x if paths == 2 else x[0]
        previous = self._previous(x, shortcut)
        return self._propagation()(x0, previous, both_paths=True, **inputs)

    def _change_shape(
        self, transition: Callable[..., nn.Module], x: tuple, inputs: dict[str, Any]
    ) -> tuple[tuple, jax.Array | None]:
        names = ["transition"]
        if len(x) == 2 and self.separate_paths:
            names = ["transition_prime", "transition"]
        modules: list[Any] = [template.copy(transition)(name=name) for name in names]
        steps = [modules[i % len(modules)](x_i, **inputs) for i, x_i in enumerate(x)]
        transformed, shortcuts = zip(*steps, strict=True)
        if shortcuts[0] is None:
            return tuple(map(self._activate, transformed)), None
        shortcut = shortcuts[0] if len(x) == 1 else (shortcuts[0] + shortcuts[1]) / 2
        return tuple(self._activate(t + shortcut) for t in transformed), shortcut

    def _activate(self, x: jax.Array) -> jax.Array:
        return x if self.post_activation is None else self.post_activation(x)

    def _previous(self, x: tuple, shortcut: jax.Array | None) -> jax.Array | None:
        if len(x) == 2 or self.previous == "same":
            return None
        return jnp.zeros_like(x[0]) if self.previous == "zero" else shortcut

    def _propagation(self) -> Propagation:
        return (ReversiblePropagation if self.reversible else Propagation)(
            self.recurrence,
            self.transform,
            self.depth,
            tied=self.tied,
            learned=self.learned,
            shared=self.shared,
            drop_path=self.drop_path,
            separate_paths=self.separate_paths,
            unroll=self.unroll,
            remat=self.remat,
            name="propagation",
        )

    def described(self) -> str:
        """Return what the stage does before its propagation."""
        return "" if self.transition is None else "transition"
