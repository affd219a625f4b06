"""A task that a network can learn, and can fail to: the input's own minimiser of F.

Let the input b enter F of Lemma 1 as its linear term:
f_b(z) = ‖z‖²/2 - Σ Ψ(U_i·z + b_i) has z - ∇f_b(z) = U Φ(U z + b), so
gradient descent is x ↦ Φ(W x + b) and the target f(b) = argmin F_b is its fixed point,
another one for each b. For Φ = ReLU it is the solution of the quadratic programme
min_{x ≥ 0} ½ x·(I - W) x - b·x.

With b = 0 and the input as the start x_0, which is how §5.1 reads, every input has the
same target, and a network need only forget its input to be right, as in Table 2.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optnet_jax.kinds import Rule
from optnet_jax.objectives import activation_pair
from optnet_jax.recurrences import Recurrence, iterate, methods
from optnet_jax.studies import kinds
from optnet_jax.studies.fit import fit, members, on_pairs

Activation = Annotated[
    kinds.Activation,
    Rule("one with slopes in [0, 1]", lambda name: name != "swish"),
]


@dataclasses.dataclass(frozen=True)
class Task:
    """A family of functions F and how the input enters them.

    Attributes:
        activation: Φ, a row of Table 1 with slopes in [0, 1].
        condition: κ: W's eigenvalues are spread evenly over [0, 1 - 1/κ], so that the
            Hessian of f_b lies between 1/κ and 1 everywhere.
        dimension: n.
    """

    activation: str
    condition: float
    dimension: int

    @property
    def mu(self) -> float:
        """μ = 1/κ."""
        return 1 / self.condition

    def layer(self, inputs: Any) -> Callable[[Any, Any], Any]:
        """Return (x, W) ↦ Φ(W x + b) for a batch of inputs [..., n]."""
        phi, _ = activation_pair(self.activation)
        # TF32 on an accelerator would add errors of the size that is measured.
        product = functools.partial(jnp.matmul, precision="highest")
        return lambda x, w: phi(product(x, w) + inputs)

    def propagate(
        self,
        recurrence: Recurrence,
        w: Any,
        inputs: Any,
        depth: int,
        trajectory: bool = False,
    ) -> Any:
        """Run a structure from x_0 = the input.

        Args:
            recurrence: the method.
            w: W of all layers [n, n], or one for each [depth, n, n].
            inputs: [..., n].
            depth: K.
            trajectory: return all iterates.
        """
        layer = self.layer(inputs)
        run = functools.partial(
            iterate, recurrence, x0=inputs, depth=depth, trajectory=trajectory
        )
        if w.ndim == 2:
            return run(lambda x: layer(x, w))
        return run(layer, weights=w)


class Split(NamedTuple):
    """Inputs and targets, [..., samples, n] each."""

    inputs: Any
    targets: Any


class Problem(NamedTuple):
    """One draw of the task.

    Attributes:
        w: W, symmetric. [n, n]
        splits: inputs, N(0, I), and argmin F for each.
    """

    w: np.ndarray
    splits: tuple[Split, ...]


def draw(task: Task, samples: tuple[int, ...], seed: int) -> Problem:
    """Draw W's basis and splits of so many inputs; minimise F for each, in float64."""
    rng = np.random.default_rng(seed)
    n = task.dimension
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    w = (basis * np.linspace(0, 1 - task.mu, n)) @ basis.T
    w = (w + w.T) / 2
    inputs = [rng.normal(size=(size, n)) for size in samples]
    with jax.enable_x64(True):
        targets = [np.asarray(_minimiser(task)(w, each)) for each in inputs]
    return Problem(w, tuple(map(Split, inputs, targets)))


@functools.cache
def _minimiser(task: Task) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
    """Return (W, inputs) ↦ argmin F for each: fixed points x = Φ(W x + b) to rounding.

    Nesterov's method with the coefficients of μ contracts by 1 - √μ a step at least.
    """
    method = methods.find("agd_tuned").recurrence(task.mu)
    steps = math.ceil(40 / math.sqrt(task.mu))
    return jax.jit(lambda w, inputs: task.propagate(method, w, inputs, steps))


def residual(task: Task, problem: Problem) -> float:
    """Return max |x - Φ(W x + b)| over all targets: 0 where ∇F is 0."""
    with jax.enable_x64(True):
        return max(
            float(np.abs(x - np.asarray(task.layer(inputs)(x, problem.w))).max())
            for inputs, x in problem.splits
        )


WORST = 1e3
"""What an error counts as at most; a network whose weights are not finite has it."""


class Outcome(NamedTuple):
    """What training left, for each member.

    Attributes:
        error: the mean squared error over the mean power of the targets about their
            mean: 1 for the best constant. [members]
        finite: whether the weights are. [members]
    """

    error: jax.Array
    finite: jax.Array


def scale(targets: jax.Array) -> jax.Array:
    """Return the power that errors are relative to."""
    return jnp.mean((targets - targets.mean(0, keepdims=True)) ** 2)


def capped(value: jax.Array) -> jax.Array:
    """Return the value, WORST where it is more or no number."""
    return jnp.where(value < WORST, value, WORST)


def initial_weights(
    key: jax.Array, depth: int, dimension: int, tied: bool
) -> jax.Array:
    """Draw W, or W_0..W_{depth-1}, by Xavier's rule: N(0, 1/n)."""
    shape = (dimension, dimension) if tied else (depth, dimension, dimension)
    return jax.random.normal(key, shape) / np.sqrt(dimension)


def make_program(
    task: Task,
    recurrence: Recurrence,
    depth: int,
    tied: bool,
    steps: int,
    batch_size: int,
) -> Callable[..., Outcome]:
    """Return the jitted training of one structure: Adam, with cosine decay to 0.

    Returns:
        (training split, split to measure on, seeds, learning rates, scales of the
        initial weights relative to Xavier's), each with a leading axis of members, ->
        Outcome. Members of one seed start from the same weights, up to their scale, and
        see the same batches.
    """

    def apply(w: jax.Array, inputs: jax.Array) -> jax.Array:
        return task.propagate(recurrence, w, inputs, depth)

    def train(
        training: Split, held_out: Split, seed: Any, rate: Any, weight_scale: Any
    ) -> Outcome:
        adam = optax.adam(optax.cosine_decay_schedule(1.0, steps))
        xavier = initial_weights(jax.random.key(seed), depth, task.dimension, tied)
        w, _ = fit(
            on_pairs(apply, training, batch_size),
            weight_scale * xavier,
            optax.chain(adam, optax.scale(rate)),
            (steps,),
        )
        missed = jnp.mean((apply(w, held_out.inputs) - held_out.targets) ** 2)
        error = capped(missed / scale(held_out.targets))
        return Outcome(error, jnp.isfinite(w).all())

    return members(train)
