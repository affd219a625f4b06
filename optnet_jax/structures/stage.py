"""Block-based structures (§6): a transition to a new shape, then a recurrence in it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.recurrences import number_of_paths
from optnet_jax.structures import fields, template
from optnet_jax.structures.propagation import Propagation


class Stage(nn.Module):
    """A recurrence at one resolution, after a transition where the shape changes.

    The transition is one plain residual step, x_0 = Φ(T(x) + S(x)); for a two-path
    method x'_0 = T'(x') + s, x_0 = T(x) + s with the merged shortcut
    s = (S'(x') + S(x)) / 2, as DMRNet does it. Then the recurrence starts afresh.

    Attributes:
        propagation: what follows the transition, at the stage's resolution; of depth 0
            if the transition is all.
        transition: makes the module x ↦ (T(x), S(x)), ``transition(name=...)``, S(x)
            None for no shortcut; None where the input has the stage's shape already. It
            takes what T takes beside x.
        previous: x_{-1}: "shortcut", the S(x) of the transition; "same", x_0, the
            method's own start, which is also taken where there is no shortcut; or
            "zero".
        post_activation: Φ after the transition's sum.

    Raises:
        InputError: a field out of its range, or a stage without any unit.
    """

    propagation: Propagation
    transition: Callable[..., nn.Module] | None = None
    previous: fields.Previous = "shortcut"
    post_activation: Callable[[Any], jax.Array] | None = None

    def __post_init__(self):
        fields.check(Stage, vars(self))
        if self.transition is None and self.propagation.depth < 1:
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

        Raises:
            InputError: the iterates of another number of paths.
        """
        method = self.propagation.recurrence
        paths = number_of_paths(method)
        x = x if isinstance(x, tuple) else (x,) * paths
        if len(x) != paths:
            raise InputError(
                f"a stage of {type(method).__name__} goes on from {paths} iterate(s), "
                f"one of each path, got {len(x)}: give as many, or an array for all"
            )
        previous = None
        if self.transition is not None:
            x, previous = self._change_shape(self.transition, x, inputs)
        if not self.propagation.depth:
            return x
        if paths == 2:
            return self.propagation(x, both_paths=True, **inputs)
        if self.previous == "same":
            previous = None
        elif self.previous == "zero":
            previous = jnp.zeros_like(x[0])
        return self.propagation(x[0], previous, both_paths=True, **inputs)

    def _change_shape(
        self, transition: Callable[..., nn.Module], x: tuple, inputs: dict[str, Any]
    ) -> tuple[tuple, jax.Array | None]:
        """Return x_0 of each path, and the shortcut."""
        names = ["transition"]
        if len(x) == 2 and self.propagation.separate_paths:
            names = ["transition_prime", "transition"]
        modules: list[Any] = [template.copy(transition)(name=name) for name in names]
        steps = [modules[i % len(modules)](x_i, **inputs) for i, x_i in enumerate(x)]
        x, shortcuts = zip(*steps, strict=True)
        shortcut = shortcuts[0]
        if shortcut is not None:
            if len(x) == 2:
                shortcut = (shortcut + shortcuts[1]) / 2
            x = tuple(t + shortcut for t in x)
        if self.post_activation is not None:
            x = tuple(map(self.post_activation, x))
        return x, shortcut

    def described(self) -> str:
        """Return what the stage does before its propagation."""
        return "" if self.transition is None else "transition"
