"""A network of stages that all run one recurrence: HB-Net, AGD-Net and their kin."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import Range, misfit
from optnet_jax.networks import fields
from optnet_jax.networks.activation import LEARNED, activated, activation, each
from optnet_jax.networks.dense_layer import DENSE_BLOCKS, DenseTransition
from optnet_jax.networks.images import check_images
from optnet_jax.networks.layers import check_layers, flag, propagation
from optnet_jax.networks.units import BLOCKS, Shortcut, Transition
from optnet_jax.ops.convolution import convolution
from optnet_jax.ops.initializers import xavier_normal
from optnet_jax.ops.normalization import BatchNorm, Neighbours
from optnet_jax.ops.pooling import max_pool
from optnet_jax.ops.relu import relu
from optnet_jax.recurrences import Recurrence, number_of_paths, takes_history
from optnet_jax.structures import Stage
from optnet_jax.structures.checks import check_skips
from optnet_jax.structures.fields import Learned, Previous, Rate, check

RESIDUAL_FIELDS = (
    "unit_relu",
    "shortcut",
    "start",
    "boundary",
    "separate_paths",
    "shared",
    "drop_path",
    "tied",
    "unroll",
    "reversible",
)
DENSE_FIELDS = ("compression", "dropout_rate")
"""What only networks whose T takes one iterate have, or the whole history."""

UNIT = ("features", "conv", "norm", "relu")
DENSE_UNIT = ("features", "norm", "dropout_rate", "train", "dtype")
"""What their units are made with, beside the strides of a transition."""


class RecurrenceNet(nn.Module):
    """Stem, stages that each run ``recurrence`` over convolutional units, classifier.

    Each stage after the first halves the resolution. Its first unit is the transition
    x_0 = T(x) + S(x), the others are steps of the recurrence, which starts afresh in
    every stage ("block based structure", §6).

    A recurrence over the whole history makes a dense network: all of a stage's iterates
    are concatenated, and go through a transition BN-ReLU-1×1-pool into the next stage,
    whose units are all steps, or through BN-ReLU into the classifier.

    >>> import jax, jax.numpy as jnp
    >>> from optnet_jax.recurrences import NesterovSum
    >>> net = RecurrenceNet(NesterovSum(), stage_sizes=(2, 2), widths=(4, 8))
    >>> net.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 10)

    Attributes:
        recurrence: the method, any :class:`~optnet_jax.recurrences.Recurrence`, or the
            key of one of :data:`~optnet_jax.recurrences.methods.METHODS`; a tuple has
            one for each stage.
        stage_sizes: the number of units of each stage, its transition included where it
            is a unit.
        widths: the number of channels of each stage; in a dense network of its new
            iterates, the growth rate.
        num_classes: the size of the output.
        block: T: "basic" (the default), "conv", "bottleneck" or "pre_activation", see
            :data:`~optnet_jax.networks.units.BLOCKS`, or a class with the fields of
            :class:`~optnet_jax.networks.units.BasicUnit`. In a dense network "dense"
            (the default) or "dense_bottleneck", or a class with the fields of
            :class:`~optnet_jax.networks.dense_layer.DenseUnit`. A class whose call
            takes ``train``, for a dropout of its own, is given the flag.
        unit_relu: T ends with a ReLU.
        activation: Φ in the place of each ReLU: one of Table 1, "gelu", or "srelu",
            which each layer learns; see :mod:`~optnet_jax.networks.activation`. A tuple
            has one for each unit of ``stage_sizes``: the stem takes the first, what
            stands before a dense network's transition or a classifier that of the unit
            before it.
        stem: "cifar", a 3×3 convolution, or "imagenet", a 7×7 convolution with stride 2
            and a 3×3 pool with stride 2; with BN-ReLU after the convolution, but for
            the 3×3 of a dense network, whose units begin with them.
        stem_features: channels of the stem; None: those of the first stage.
        shortcut: S of the transitions: "pad" (He's option A), "projection" (1×1
            convolution and BN) or "none".
        start: x_{-1} in the first stage: "same", x_0, or "zero".
        boundary: x_{-1} in a stage after a transition: "shortcut", S(x); "same";
            "zero".
        compression: channels after a transition of a dense network by those before it.
        dropout_rate: share of the activations that training drops after each
            convolution of a dense network but the stem's.
        drop_path: probability that training leaves an image without the T of a step
            (stochastic depth; Huang, Sun, Liu, Sedra and Weinberger, 2016): one for all
            steps, or two, at the stem and at the last unit, with those of the units
            between on a line, whatever stage they are in; theirs is (0, 0.5).
        learned: names of the recurrence's coefficients that are trained, as in
            :class:`~optnet_jax.structures.Propagation`, in each stage its own.
        shared: likewise.
        separate_paths: likewise.
        tied: likewise.
        unroll: likewise; None: stages of up to 18 steps with weights of their own are
            written out, tied ones are scanned.
        remat: likewise.
        reversible: run each stage as a
            :class:`~optnet_jax.structures.ReversiblePropagation`, which scans it.
        batch_norm_group: the number of samples that BatchNorm's statistics are taken
            over; None: the whole batch.
        dtype: of the computation; parameters, statistics and logits stay in float32.

    Raises:
        InputError: fields that do not fit together, when the module is made.
    """

    recurrence: fields.Recurrences
    stage_sizes: fields.StageSizes = (9, 9, 9)
    widths: fields.Widths = (16, 32, 64)
    num_classes: fields.Classes = 10
    block: fields.Block | None = None
    unit_relu: bool = False
    activation: fields.Activations = "relu"
    stem: Literal["cifar", "imagenet"] = "cifar"
    stem_features: fields.Channels | None = None
    shortcut: fields.Shortcut = "pad"
    start: Literal["same", "zero"] = "same"
    boundary: Previous = "shortcut"
    compression: Annotated[float, Range(above=0, most=1)] = 1.0
    dropout_rate: Rate = 0.0
    learned: Learned = ()
    shared: bool = False
    drop_path: Rate | tuple[Rate, Rate] = 0.0
    separate_paths: bool = False
    tied: bool = False
    unroll: bool | None = None
    remat: bool = False
    reversible: bool = False
    batch_norm_group: fields.Group | None = None
    dtype: fields.Dtype | None = None

    def __post_init__(self):
        check(RecurrenceNet, vars(self))
        object.__setattr__(self, "recurrence", fields.method(self.recurrence))
        stages = len(self.stage_sizes)
        if len(self.widths) != stages:
            raise InputError(
                f"stage_sizes and widths need one entry for each stage, "
                f"got {tuple(self.stage_sizes)} and {tuple(self.widths)}"
            )
        if fields.are_several(self.recurrence) and len(self.recurrence) != stages:
            raise InputError(
                f"a tuple of recurrences needs one for each of the {stages} stages, "
                f"got {len(self.recurrence)}"
            )
        super().__post_init__()
        _check_kind(self)

    @property
    def dense(self) -> bool:
        """Whether the recurrence takes the whole history."""
        return takes_history(self.stage_recurrence(0))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
            images: [B, H, W, C].
            train: use the batch's statistics, and dropout.

        Returns:
            [B, num_classes] float32.

        Raises:
            InputError: images that are no [B, H, W, C] or too small for the network.
        """
        halvings = len(self.stage_sizes) - 1 + (2 if self.stem == "imagenet" else 0)
        check_images(images, 2**halvings)
        names = self.activations
        norm = functools.partial(self._norm, train, Neighbours())
        x: Any = self._stem(images, norm(names[0][0]))
        for i in range(len(self.stage_sizes)):
            x = (self._dense if self.dense else self._stage)(i, x, norm, train)
        if self.dense:
            x = norm(names[-1][-1])(relu=True, name="norm")(x)
        else:
            x = self._merged(x, names[-1][-1])
        # In float32 from here on: neither the mean nor the logits are rounded.
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        return nn.Dense(self.num_classes, kernel_init=xavier_normal, name="head")(x)

    @property
    def activations(self) -> list[tuple[str, ...]]:
        """The names of Φ in the units of each stage."""
        sizes = self.stage_sizes
        names = iter(each(self.activation, sum(sizes), "units"))
        return [tuple(itertools.islice(names, size)) for size in sizes]

    def _norm(
        self, train: bool, neighbours: Neighbours, phi: str
    ) -> Callable[..., Any]:
        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            group_size=self.batch_norm_group,
            neighbours=neighbours,
            dtype=self.dtype,
        )
        return norm if phi == "relu" else functools.partial(activated, norm, phi)

    def _merged(self, x: tuple, phi: str) -> jax.Array:
        # Every path has been merged by the method's own read-out when its last state
        # is taken for a first one.
        last = self.stage_recurrence(len(self.stage_sizes) - 1)
        merged = last.output(last.init(x)) if len(x) == 2 else x[0]
        # Without an activation after the sum, this is the one before the pooling;
        # after one a ReLU changes nothing, but another would.
        if phi != "relu" and getattr(last, "post_activation", None) is not None:
            return merged
        return activation(phi, "activation")(merged)

    @nn.nowrap
    def propagations(self) -> dict[tuple[str, ...], tuple[Recurrence, int]]:
        """Return the recurrence of each stage and its number of steps.

        Returns:
            The path of the stage's parameters -> (recurrence, steps); a stage that is a
            transition alone is not there.
        """
        inner = () if self.dense else ("propagation",)
        steps = {
            (f"stage_{i}", *inner): (self.stage_recurrence(i), self._steps(i))
            for i in range(len(self.stage_sizes))
        }
        return {path: step for path, step in steps.items() if step[1]}

    @nn.nowrap
    def _steps(self, i: int) -> int:
        return self.stage_sizes[i] - (not self.dense and self._changes_shape(i))

    def _drop_path(self, i: int) -> float | tuple[float, ...]:
        """Return the probability of all steps of stage i, or that of each."""
        if isinstance(self.drop_path, int | float):
            return self.drop_path
        first, last = self.drop_path
        units, end = sum(self.stage_sizes), sum(self.stage_sizes[: i + 1])
        places = range(end - self._steps(i) + 1, end + 1)
        return tuple(first + (last - first) * place / units for place in places)

    @nn.nowrap
    def _changes_shape(self, i: int) -> bool:
        return i > 0 or (self.stem_features or self.widths[0]) != self.widths[0]

    @nn.nowrap
    def stage_recurrence(self, i: int) -> Recurrence:
        """Return the recurrence of stage i."""
        methods = self.recurrence
        method = methods[i] if fields.are_several(methods) else methods
        (phi, *others) = set(self.activations[i])
        named = phi not in ("relu", LEARNED) and not others
        if named and getattr(method, "post_activation", None) is relu:
            return dataclasses.replace(method, post_activation=activation(phi, ""))
        return method

    def _stem(self, images: jax.Array, norm: Any) -> jax.Array:
        imagenet = self.stem == "imagenet"
        conv = convolution(
            self.stem_features or self.widths[0],
            7 if imagenet else 3,
            2 if imagenet else 1,
            derived=self.dense,
            dtype=self.dtype,
            name="stem_conv",
        )
        x = conv(images)
        if imagenet or not self.dense:
            x = norm(relu=True, name="stem_norm")(x)
        return max_pool(x) if imagenet else x

    def _dense(self, i: int, x: Any, norm: Any, train: bool) -> tuple:
        """Return x_0..x_K of a stage; x are those of the stage before, or the stem."""

        def make(unit: Callable[..., Any], phi: str, *args: Any, **named: Any) -> Any:
            return unit(
                *args,
                norm=functools.partial(norm(phi), relu=True),
                dropout_rate=self.dropout_rate,
                train=train,
                dtype=self.dtype,
                **named,
            )

        names = self.activations
        if i:
            before = sum(part.shape[-1] for part in x)
            channels = int(before * self.compression)
            if channels < 1:
                raise InputError(
                    f"compression={self.compression:g} leaves none of the {before} "
                    f"channels of stage {i - 1}: raise it"
                )
            name = f"transition_{i - 1}"
            x = make(DenseTransition, names[i - 1][-1], channels, name=name)(x)
        block = self._block(DENSE_BLOCKS, "dense")
        unit = functools.partial(make, block, features=self.widths[i], parent=None)
        layers = propagation(
            self,
            self.stage_recurrence(i),
            unit,
            names[i],
            self._steps(i),
            name=f"stage_{i}",
        )
        return layers(x, trajectory=True, **flag(layers, train))

    def _stage(self, i: int, x: Any, norm: Any, train: bool) -> tuple:
        features, names = self.widths[i], self.activations[i]
        strides = 1 if i == 0 else 2
        conv = functools.partial(convolution, dtype=self.dtype)
        unit = functools.partial(
            self._block(BLOCKS, "basic"),
            features=features,
            conv=conv,
            relu=self.unit_relu,
        )
        transition = shortcut = None
        if self._changes_shape(i):
            if self.shortcut != "none":
                shortcut = functools.partial(
                    Shortcut, self.shortcut, features, conv, norm(names[0]), strides
                )
            first = functools.partial(unit, norm=norm(names[0]), strides=strides)
            transition = functools.partial(Transition, first, shortcut)
            names = names[1:] or names
        recurrence = self.stage_recurrence(i)
        layers = propagation(
            self,
            recurrence,
            lambda phi: unit(norm=norm(phi), parent=None),
            names,
            self._steps(i),
            separate_paths=self.separate_paths,
            drop_path=self._drop_path(i) if train else 0.0,
            parent=None,
        )
        stage = Stage(
            layers,
            transition,
            previous=self.boundary if transition else self.start,
            post_activation=getattr(recurrence, "post_activation", None),
            name=f"stage_{i}",
        )
        return stage(x, **flag(layers, train))

    def _block(self, blocks: Any, default: str) -> Callable[..., nn.Module]:
        block: Any = self.block or default
        return blocks[block] if isinstance(block, str) else block


def _check_kind(network: RecurrenceNet) -> None:
    """Check that the fields are those of networks of this kind of recurrence."""
    methods = [network.stage_recurrence(i) for i in range(len(network.stage_sizes))]
    name = type(methods[0]).__name__
    takes = "the whole history" if network.dense else "one iterate"
    if any(takes_history(method) != network.dense for method in methods):
        raise InputError(
            f"{name} takes {takes}, and the recurrence of another stage does not: "
            f"give all stages recurrences of one kind"
        )
    if len(set(map(number_of_paths, methods))) > 1:
        raise InputError(
            "the recurrences of some stages have two paths and those of others one, "
            "and nothing says how a stage begins with the other's: give all as many"
        )
    other = RESIDUAL_FIELDS if network.dense else DENSE_FIELDS
    unread: dict[str, str] = dict.fromkeys(other, f"takes {takes}")
    if not any(number_of_paths(m) == 1 and hasattr(m, "restart") for m in methods):
        unread |= dict.fromkeys({"start", "boundary"} - {*other}, "begins at x_0 alone")
    for field in dataclasses.fields(network):
        if field.name in unread and getattr(network, field.name) != field.default:
            raise InputError(
                f"{field.name} means nothing in a network whose recurrence "
                f"{unread[field.name]}, as {name} does: leave it out"
            )
    for i, (method, names) in enumerate(zip(methods, network.activations, strict=True)):
        check_layers(network, method, names[len(names) - network._steps(i) :])
        others = set(names) - {"relu"}
        if others and network.block == "pre_activation" and network.unit_relu:
            raise InputError(
                "a pre_activation unit ends with a ReLU alone: leave out unit_relu or "
                "activation"
            )
        if getattr(method, "post_activation", None) is relu and (
            LEARNED in names or len(set(names)) > 1
        ):
            raise InputError(
                f"the sums of a stage have one activation without parameters, and "
                f"it has {', '.join(names)}: set post_activation=False"
            )
    if network.drop_path:
        if network.reversible:
            raise InputError(
                "reversible excludes drop_path, which draws, for each T is computed "
                "twice: leave one of them out"
            )
        for i, method in enumerate(methods):
            check_skips(method, network._steps(i))
    blocks = DENSE_BLOCKS if network.dense else BLOCKS
    if isinstance(network.block, str) and network.block not in blocks:
        raise InputError(
            f"block must be one of {', '.join(blocks)}, or a class, for a "
            f"recurrence that takes {takes}, as {name} does; got {network.block!r}"
        )
    if callable(network.block):
        given = DENSE_UNIT if network.dense else UNIT
        if wrong := misfit(network.block, **dict.fromkeys(given)):
            raise InputError(
                f"block={shown(network.block)} must take {', '.join(given)}, for a "
                f"recurrence that takes {takes}, as {name} does: {wrong}"
            )
