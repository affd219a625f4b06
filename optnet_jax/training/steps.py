"""The state of a run, and its steps: pure functions of state and batch."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import errors as flax_errors
from flax import struct

from optnet_jax.data.preprocessing import Preprocessing
from optnet_jax.errors import InputError, one_line
from optnet_jax.training import metrics as metrics_lib
from optnet_jax.training.augmentation import augment

Batch = Mapping[str, jax.Array]
Sums = dict[str, tuple[jax.Array, jax.Array]]

AUGMENTATION = 2**32 - 1
"""What the key of the augmentation is derived with; dropout's: the micro-batch."""


class TrainState(struct.PyTreeNode):
    """The complete state of a run: with it and the config, the rest is determined.

    Attributes:
        step: int32 [], the number of optimiser steps taken.
        params: The linen collection ``params``.
        batch_stats: The linen collection ``batch_stats`` (BatchNorm's running mean and
            variance); empty for a network without BatchNorm.
        opt_state: The optimiser's state (momentum).
        average: Exponential moving average of ``{"params", "batch_stats"}``, which
            evaluation then uses; ``None`` where averaging is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The collections of the network."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The collections to evaluate with: the average where there is one."""
        return self.variables if self.average is None else self.average


def create_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: Sequence[int],
    *,
    average: bool = False,
) -> TrainState:
    """Draw the parameters and start the optimiser."""
    # lazy_init draws the parameters without running (or compiling) the forward pass:
    # jit(module.init) of a 40-layer DenseNet compiles for minutes.
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = module.lazy_init(key, image, train=False)
    params = variables["params"]
    batch_stats = variables.get("batch_stats", {})
    copies = {"params": params, "batch_stats": batch_stats} if average else None
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        # The state is donated to the step: two fields must not share one buffer.
        average=jax.tree.map(jnp.copy, copies),
    )


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """What a step does beyond the paper's recipe; everything is off by default.

    Attributes:
        label_smoothing: Share of the target spread evenly over all classes.
        accumulate: Number of equal micro-batches that a batch is run in. The gradients
            are averaged before the one update, and each micro-batch starts from the
            same running statistics, whose results are averaged too: a network whose
            BatchNorm groups are no larger than a micro-batch gives the same step as
            without accumulation.
        average_decay: Decay of the moving average of the variables, once the run is
            long enough for it (:func:`average_share`); 0 keeps none.
        trivial: How images were normalised, for TrivialAugment; None is off.
        erase: Probability of an image to have a rectangle erased.
        mixup: α of mixup; 0 is off.
        cutmix: α of CutMix; 0 is off.
        batch_sharding: How a batch lies on the devices; each micro-batch is sharded
            over all of them likewise. None: on one device, or wherever XLA likes it.
    """

    label_smoothing: float = 0.0
    accumulate: int = 1
    average_decay: float = 0.0
    trivial: Preprocessing | None = None
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    batch_sharding: jax.sharding.NamedSharding | None = None


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    options: StepOptions,
) -> tuple[TrainState, Sums]:
    """Take one optimiser step.

    Args:
        state: The state before the step.
        batch: ``image`` float [B, H, W, C] and ``label`` int [B].
        key: The run's PRNG key; dropout's and the augmentation's are derived from it
            and the step, so that a resumed run draws what the uninterrupted one would
            have drawn.
        module: The network.
        optimizer: The optimiser.
        options: What else is done.

    Returns:
        The state after the step, and (sum, normaliser) pairs: ``loss``, ``top1_error``,
        ``top5_error`` of the batch before the update, and ``gradient_norm``.
    """
    key = jax.random.fold_in(key, state.step)
    names = ("trivial", "erase", "mixup", "cutmix")
    mixes: dict[str, Any] = {name: getattr(options, name) for name in names}
    if any(mixes.values()):
        batch = augment(jax.random.fold_in(key, AUGMENTATION), batch, **mixes)
    run = jax.value_and_grad(_loss, has_aux=True)

    def gradients_of(index: jax.Array, micro_batch: Batch):
        dropout = jax.random.fold_in(key, index)
        (_, aux), gradients = run(
            state.params, state.batch_stats, micro_batch, dropout, module, options
        )
        return gradients, *aux

    if options.accumulate == 1:
        gradients, batch_stats, sums = gradients_of(jnp.zeros((), jnp.int32), batch)
    else:
        gradients, batch_stats, sums = _accumulate(gradients_of, batch, options)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        new = {"params": params, "batch_stats": batch_stats}
        share = average_share(state.step, options.average_decay)
        # Not (1 - share) * old + share * new, whose rounding moves what stands still.
        average = jax.tree.map(
            lambda old, new: old + share * (new - old) if _is_float(new) else new,
            average,
            new,
        )
    # A gradient can overflow under a finite loss; the loop stops on either.
    sums["gradient_norm"] = (optax.tree.norm(gradients), jnp.ones(()))
    return (
        state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            average=average,
        ),
        sums,
    )


def _is_float(leaf: jax.Array) -> bool:
    """Say whether means are taken of a leaf: a counter has its last value instead."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def average_share(step: jax.Array, decay: float) -> jax.Array:
    """Return the share that the newest variables have in the moving average.

    The decay rises to its value as min(decay, (1 + t) / (10 + t)). So a short run is
    averaged over about the last tenth of its steps, and of the random start that the
    average begins with is left 1 / C(t + 9, 9) after t steps, 1e-5 after ten.

    Returns:
        float [], one less the decay, after ``step`` steps.
    """
    return jnp.maximum(1 - decay, 9 / (10 + step))


def _loss(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    dropout: jax.Array,
    module: nn.Module,
    options: StepOptions,
) -> tuple[jax.Array, tuple[Any, Sums]]:
    """Mean (smoothed) cross-entropy, the new running statistics, the metrics."""
    logits, updated = _apply(
        module,
        {"params": params, "batch_stats": batch_stats},
        batch["image"],
        train=True,
        rngs={"dropout": dropout},
        mutable=["batch_stats"],
    )
    logits = logits.astype(jnp.float32)
    targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
    if "partner" in batch:
        share = batch["share"][:, None]
        others = jax.nn.one_hot(batch["partner"], logits.shape[-1])
        targets = share * targets + (1 - share) * others
    targets = optax.smooth_labels(targets, options.label_smoothing)
    loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
    sums = metrics_lib.classification_sums(logits, batch["label"])
    return loss, (updated.get("batch_stats", {}), sums)


def _apply(module: nn.Module, variables: Any, images: jax.Array, **options: Any) -> Any:
    """Run the network.

    Raises:
        InputError: it uses what a state does not hold, or no step gives it.
    """
    try:
        return module.apply(variables, images, **options)
    except (
        flax_errors.ScopeCollectionNotFound,
        flax_errors.InvalidRngError,
        flax_errors.ModifyScopeVariableError,
    ) as error:
        raise InputError(
            "a network has the collections params and batch_stats and, with train=True "
            "only, may change batch_stats and draw from the random stream dropout: "
            f"{one_line(error)}"
        ) from error


def _accumulate(
    gradients_of: Callable[..., tuple], batch: Batch, options: StepOptions
) -> tuple:
    """Run the micro-batches one after the other; average all but the metrics' sums.

    Of what is no float, such as a counter, the last micro-batch's value is kept.
    """
    count = options.accumulate
    micro_batches = {
        name: value.reshape(count, -1, *value.shape[1:])
        for name, value in batch.items()
    }

    def add(total, new):
        return jnp.add(total, new) if _is_float(new) else new

    def mean(total):
        return total / count if _is_float(total) else total

    def body(totals, indexed):
        index, micro_batch = indexed
        if options.batch_sharding is not None:
            # Its rows lie on a few of the devices: without this the others would
            # repeat their work.
            micro_batch = jax.lax.with_sharding_constraint(
                micro_batch, options.batch_sharding
            )
        return jax.tree.map(add, totals, gradients_of(index, micro_batch)), None

    first = {name: value[0] for name, value in micro_batches.items()}
    shapes = jax.eval_shape(gradients_of, jnp.zeros((), jnp.int32), first)
    zeros = optax.tree.zeros_like(shapes)
    totals, _ = jax.lax.scan(body, zeros, (jnp.arange(count), micro_batches))
    *averaged, sums = totals
    return *jax.tree.map(mean, averaged), sums


def eval_step(variables: Any, batch: Batch, *, module: nn.Module) -> Sums:
    """Measure one batch with the running statistics.

    Args:
        variables: ``params`` and ``batch_stats``.
        batch: ``image`` [B, H, W, C], ``label`` int [B], ``mask`` [B] (0: padding).
        module: The network.

    Returns:
        (sum, normaliser) pairs of ``loss``, ``top1_error`` and ``top5_error``.
    """
    logits = _apply(module, variables, batch["image"], train=False)
    return metrics_lib.classification_sums(logits, batch["label"], batch["mask"])
