"""The simulation of §5.3: one structure of one depth, trained on random pairs by (15).

:func:`simulate` draws the pairs, draws the weights, trains and measures in one traced
function, so that one cell of Table 2 is one jitted program. :func:`readings` are the
structures that are trained.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.recurrences import (
    ADMM,
    Coefficients,
    Recurrence,
    State,
    Transform,
    heavy_ball,
    methods,
    momentum,
)
from optnet_jax.studies.fit import Step, fit, on_pairs


class Record(NamedTuple):
    """What one run leaves behind; all means are over samples and dimensions.

    Attributes:
        mse: mean (Net(x_0) - f)² over the whole set at each checkpoint. [checkpoints]
        output_power: mean Net(x_0)². [checkpoints]
        output_spread: the part of it that depends on the input: the variance of
            Net(x_0) over the samples, mean over the dimensions. [checkpoints]
        target_power: M = mean f², the error of the output 0. []
        constant_mse: the error of the best constant vector, the samples' mean of f. []
    """

    mse: jax.Array
    output_power: jax.Array
    output_spread: jax.Array
    target_power: jax.Array
    constant_mse: jax.Array


def draw(seed: jax.Array | int, samples: int, dim: int) -> tuple[jax.Array, jax.Array]:
    """Draw the inputs x_0 and the targets f from N(0, I), independent of each other.

    Returns:
        x_0 and f, [samples, dim] each.
    """
    key, _ = jax.random.split(jax.random.key(seed))
    inputs, targets = jax.random.normal(key, (2, samples, dim))
    return inputs, targets


def initial_parameters(network: nn.Module, seed: jax.Array | int, dim: int) -> Any:
    """Draw the ``params``, independently of :func:`draw` at the same seed.

    One seed gives structures of one shape the same weights.
    """
    _, key = jax.random.split(jax.random.key(seed))
    return network.init(key, jnp.zeros(dim))["params"]


def simulate(
    network: nn.Module,
    seed: jax.Array | int,
    *,
    samples: int,
    dim: int,
    batch_size: int,
    **training: Any,
) -> Record:
    """Train a structure on random pairs and measure it: one seed of one cell.

    Args:
        network: the structure, [..., dim] to [..., dim].
        seed: of the pairs and of the weights.
        samples: the number of pairs (x_0, f).
        dim: the dimension of x_0 and f.
        batch_size: samples of a step.
        **training: ``optimizer`` and ``checkpoints`` of :func:`fit`.
    """
    inputs, targets = draw(seed, samples, dim)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return network.apply({"params": params}, x)  # pyright: ignore

    def measure(params: Any, _: Step) -> tuple[jax.Array, ...]:
        outputs = apply(params, inputs)
        return (
            jnp.mean((outputs - targets) ** 2),
            jnp.mean(outputs**2),
            jnp.mean(jnp.var(outputs, axis=0)),
        )

    _, (mse, power, spread) = fit(
        on_pairs(apply, (inputs, targets), batch_size),
        initial_parameters(network, seed, dim),
        measure=measure,
        **training,
    )
    constant_mse = jnp.mean(jnp.var(targets, axis=0))
    return Record(mse, power, spread, jnp.mean(targets**2), constant_mse)


@dataclasses.dataclass(frozen=True)
class Extrapolated:
    """y_K = x_K + β_K (x_K - x_{K-1}) instead of x_K, with β of (3).

    The hidden sequence x is the method's own. (12) and (13) share theirs, and (13)
    returns this y_K, so ``Extrapolated(Nesterov())`` is ``NesterovSum()`` as a
    function of the weights; ``Extrapolated(GradientDescent())`` has AGD2's read-out and
    nothing else of it.

    Attributes:
        recurrence: the method whose output is extrapolated.
    """

    recurrence: Recurrence

    def coefficients(self, depth: int) -> Coefficients:
        """Return the method's coefficients and readout_beta = β_1..β_K, [depth]."""
        own = self.recurrence.coefficients(depth)
        return {**own, "readout_beta": momentum(depth + 1)[1:]}

    def init(self, x0: Any) -> State:
        """Return (the method's state, y_0 = x_0)."""
        return self.recurrence.init(x0), x0

    def step(self, transform: Transform, state: State, c: Coefficients) -> State:
        """Return (the method's next state, y_{k+1})."""
        inner, _ = state
        x = self.recurrence.output(inner)
        inner = self.recurrence.step(transform, inner, c)
        x_next = self.recurrence.output(inner)
        return inner, x_next + c["readout_beta"] * (x_next - x)

    def output(self, state: State) -> Any:
        """Return y_K."""
        return state[1]


@dataclasses.dataclass(frozen=True)
class Reading:
    """One reading of one column of Table 2: a method, and what is left open in it.

    Attributes:
        label: how tables name it.
        recurrence: the method.
        column: the paper's column, the name of a method; empty: not in the paper.
        separate_paths: two-path methods: each path has weights of its own.
        slow: trained at the smaller learning rate.
    """

    label: str
    recurrence: Recurrence
    column: str = ""
    separate_paths: bool = False
    slow: bool = False


def readings(heavy_ball_beta: float = 0.3) -> dict[str, Reading]:
    """Return name in the config → what is trained.

    The methods of optimisation as they are, and what the paper does not say of them:
    whether the two lines of (14) share W, which of its paths is the output, the rate.

    Args:
        heavy_ball_beta: β of (11).
    """
    own = [method for method in methods.minimisers() if not method.tuned]
    titles = methods.titles(own)
    given = {m.key: Reading(titles[m.key], m.recurrence(), m.name) for m in own}
    admm, hb, agd2 = given.pop("admm"), given["hb"], given["agd2"]
    given["hb"] = dataclasses.replace(hb, recurrence=heavy_ball(heavy_ball_beta))
    mean = ADMM(readout="mean")
    return {
        "admm_shared": dataclasses.replace(admm, label=f"{admm.label}, shared W, x"),
        "admm_separate": Reading(f"{admm.label}, W and W', mean", mean, "ADMM", True),
        **given,
        "agd2_slow": dataclasses.replace(
            agd2, label=f"{agd2.label}, lower rate", slow=True
        ),
        **{
            f"{key}_readout": Reading(
                f"{given[key].column}, AGD2's read-out",
                Extrapolated(given[key].recurrence),
            )
            for key in ("gd", "agd")
        },
    }
