"""Every field of a training config: its kind, its range and its default.

The defaults are the values of §7.1 of the paper unless a comment says otherwise;
``configs/recipes.py`` has what differs from dataset to dataset.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from optnet_jax.configuration.block import Block
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import (
    INT32,
    LocalPath,
    Range,
    as_mapping,
    pattern,
)

FLOAT32 = 1e38
"""Larger numbers, and the inverse of it, are none in single precision."""

Name = Annotated[str, pattern(r"[^\n\r]+", "a name of one line")]
# Those that no two generators take for the same: JAX's keys have 32 bits of a seed.
Seed = Annotated[int, Range(least=0, most=2**32 - 1)]
Count = Annotated[int, Range(least=1, most=INT32)]
CountOrOff = Annotated[int, Range(least=0, most=INT32)]
Rate = Annotated[float, Range(least=1 / FLOAT32, most=FLOAT32)]
Fraction = Annotated[float, Range(above=0, below=1, meaning="a fraction of the run")]
DropFactor = Annotated[float, Range(above=0, most=1)]
Momentum = Annotated[float, Range(least=0, below=1)]
BelowOne = Annotated[float, Range(least=0, below=1, meaning="0 is off")]
Alpha = Annotated[float, Range(least=0, most=100, meaning="0 is off")]
Interval = Annotated[float, Range(above=0, most=1e9)]
Epochs = Annotated[float, Range(least=0, most=1e9)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Block, path="data."):
    """``config.data``.

    Attributes:
        dataset: A name of :data:`optnet_jax.data.SPECS`, or "optnet_folder".
        folder: Of that one: the folder of pictures, ``DIR/train/CLASS/*.png``.
        data_dir: Where prepared sets lie; empty for TFDS's default
            (``$TFDS_DATA_DIR``, or ``~/tensorflow_datasets``).
        batch_size: Images of a step, over all processes together.
        augment: Random crops and, where the dataset's entry says so, mirror images.
        crop: How a streamed set is cropped with augmentation: "random_resized" (8 to
            100 % of the area, as the authors of DenseNet trained, whose strategy §7.1
            adopts) or "fixed" (short side resized, then a random square: §7.1 to the
            letter).
        trivial_augment: Whether each training image is moved, or changed in its
            colours, by one operation drawn for it (TrivialAugment).
        erase: Probability of a training image to have a rectangle painted over, its
            mean colour in it (random erasing).
        mixup: α of Beta(α, α), from which the share of an image in its mean with
            another is drawn; 0 is off.
        cutmix: α likewise of the part of an image that is replaced by another's; 0 is
            off. With mixup, each step draws one of the two.
        image_size: Side of the network's input for a streamed set or a folder; 0 for
            the dataset's own (224 for ImageNet).
        shuffle_buffer: Undecoded records of a streamed set that are shuffled at a time,
            over all processes together (10,000 of ImageNet's take 1.1 GB).
        skip_corrupt: Whether a streamed set leaves unreadable images and records out
            and counts them; otherwise the first one ends the run.
    """

    dataset: str = "optnet_digits"
    folder: LocalPath = ""
    data_dir: LocalPath = ""
    batch_size: Count = 64
    augment: bool = False
    crop: Literal["random_resized", "fixed"] = "random_resized"
    trivial_augment: bool = False
    erase: Annotated[float, Range(least=0, most=1)] = 0.0
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    image_size: Annotated[int, Range(least=0, most=16_384)] = 0
    shuffle_buffer: Count = 10_000
    skip_corrupt: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Block, path="optimizer."):
    """``config.optimizer``: SGD with momentum, L2 in the gradient; or another of optax.

    Attributes:
        name: "sgd", or what optax calls another: "adamw", "adam", "lion", ...
        options: Further arguments of its function in optax, by their names there, such
            as ``b1=0.8,eps=1e-6``.
        learning_rate: The rate before it falls.
        momentum: Of SGD: m of
            :func:`optnet_jax.training.optimizer.create_optimizer`.
        nesterov: Of SGD: Nesterov's form of it.
        weight_decay: L2, in the gradient of every parameter; as optax's function has
            it, where that takes one with a mask (AdamW and Lion: decoupled) ...
        decay_exclude: ... but those with these leaf names, such as
            ``("bias", "scale")``.
        clip_norm: What the norm of the whole gradient is cut to; 0 is off.
        accumulate: Micro-batches that a batch is run in where it does not fit at once.
    """

    name: Name = "sgd"
    options: str = ""
    learning_rate: Rate = 0.1
    momentum: Momentum = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Range(least=0, most=FLOAT32)] = 1e-4
    decay_exclude: tuple[str, ...] = ()
    clip_norm: Annotated[float, Range(least=0, most=FLOAT32)] = 0.0
    accumulate: Count = 1

    def check(self) -> None:
        """Refuse SGD's own fields for another."""
        if self.name != "sgd" and (self.momentum, self.nesterov) != (0.9, True):
            raise InputError(
                "config.optimizer.momentum and nesterov are of sgd: leave them out, or "
                f"say in options what {shown(self.name)} has instead"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Block, path="schedule."):
    """``config.schedule``.

    Attributes:
        epochs: Length of the run.
        steps: Above 0, the length in steps, instead of epochs.
        decay: How the rate falls: in steps (drop_at), or after the warm-up to 0 at the
            end of the run, along a cosine or a line.
        drop_at: Fractions of the run at which the rate is multiplied by drop_factor.
        drop_factor: What a drop multiplies the rate by.
        warmup_epochs: Length of the linear warm-up; 0 is off.
    """

    epochs: Epochs = 300.0
    steps: CountOrOff = 0
    decay: Literal["steps", "cosine", "linear"] = "steps"
    drop_at: tuple[Fraction, ...] = (0.5, 0.75)
    drop_factor: DropFactor = 0.1
    warmup_epochs: Epochs = 0.0

    def check(self) -> None:
        """Refuse a run without a length."""
        if not self.steps and not self.epochs:
            raise InputError(
                "config.schedule: the run has no length: set --config.schedule.epochs="
                "300.0 or --config.schedule.steps=1000"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss(Block, path="loss."):
    """``config.loss``.

    Attributes:
        label_smoothing: Share of the target spread evenly over all classes.
    """

    label_smoothing: BelowOne = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average(Block, path="average."):
    """``config.average``.

    Attributes:
        decay: Of the moving average of the variables, which is evaluated instead of
            them; 0 is off. It rises to this value as min(decay, (1 + t) / (10 + t))
            with the step t, so that a short run does not evaluate its random start.
    """

    decay: BelowOne = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Block, path="eval."):
    """``config.eval``.

    Attributes:
        every_epochs: Between two evaluations.
        checkpoint: For the modes eval, predict and export: last, best, or a step.
    """

    every_epochs: Interval = 1.0
    checkpoint: Annotated[
        str, pattern("last|best|[0-9]{1,10}", "last, best, or a step such as 1000")
    ] = "last"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint(Block, path="checkpoint."):
    """``config.checkpoint``.

    Attributes:
        every_epochs: Between two checkpoints.
        keep: How many of the newest are kept; the best stays besides if keep_best.
        keep_best: Save a checkpoint whenever the test error is the lowest so far.
        warm_start: DIR or DIR@STEP, another run, or a file of torchvision's weights:
            what the variables of this run start from; empty for none.
    """

    every_epochs: Interval = 10.0
    keep: Count = 2
    keep_best: bool = True
    warm_start: LocalPath = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log(Block, path="log."):
    """``config.log``.

    Attributes:
        every_steps: Between two entries of the training metrics; 0: once an epoch.
    """

    every_steps: CountOrOff = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile(Block, path="profile."):
    """``config.profile``: a trace of a few steps in ``<workdir>/profile``.

    Attributes:
        start_step: The first of them, from 0; its compilation is not in the trace.
        steps: How many; 0 is off.
    """

    start_step: CountOrOff = 10
    steps: CountOrOff = 0


@dataclasses.dataclass(frozen=True)
class Model(Block, path="model."):
    """``config.model``: a network of ``optnet_jax.networks`` and fields of it.

    The network's constructor knows what its fields hold; see
    :func:`optnet_jax.training.experiment.create_network`.

    Attributes:
        name: Of the network.
        fields: Those that differ from the network's defaults.
    """

    name: Name
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the block; see :meth:`Block.of`."""
        if isinstance(config, cls):
            return config
        fields = as_mapping(config)
        if fields is None or "name" not in fields:
            raise InputError(
                f"config.model={shown(config)} must be a block with the name of a "
                'network and fields of it, such as {"name": "agd_net"}'
            )
        fields = {str(name): _plain(value) for name, value in fields.items()}
        return cls(name=fields.pop("name"), fields=fields)

    def as_mapping(self) -> dict[str, Any]:
        """Return the name and the fields, in one dict as in the config."""
        return {"name": self.name, **self.fields}


def _plain(value: Any) -> Any:
    mapping = as_mapping(value)
    return value if mapping is None else dict(mapping)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Block):
    """A training run.

    Attributes:
        name: Of the run; ``runs/<name>`` is its default workdir.
        experiment: What is done with the config: it is trained.
        seed: Of the parameters, the data order, the augmentation and dropout.
        deterministic: Repeatable on a GPU too, at some cost in speed; a CPU always is.
            From Python, call ``optnet_jax.runs.devices.make_repeatable`` first.
        compilation_cache: Whether compiled programs are kept for later starts, in
            ``$JAX_COMPILATION_CACHE_DIR``, or the user's cache folder without.
        onednn: Whether convolutions on a CPU are oneDNN's, where jaxlib has them. Its
            programs cannot be kept: every start compiles. A run may go on with the
            other, as it may on another machine: either changes rounding.
        precision: Of the forward and backward pass.
        data: The images.
        optimizer: The optimiser.
        schedule: Length of the run, and the learning rate over it.
        loss: The loss.
        average: Moving average of the variables.
        eval: Evaluation.
        checkpoint: Checkpoints, and what the run starts from.
        log: Training metrics.
        profile: A profile of a few steps.
        model: The network.
    """

    free: ClassVar[tuple[str, ...]] = (
        "data.data_dir",
        "data.folder",
        "onednn",
        "log",
        "checkpoint.every_epochs",
        "checkpoint.keep",
        "checkpoint.keep_best",
        "eval.checkpoint",
        "profile",
        "compilation_cache",
    )

    name: Name
    experiment: Literal["train"] = "train"
    seed: Seed = 0
    deterministic: bool = False
    compilation_cache: bool = True
    onednn: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    average: Average = Average()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()
    profile: Profile = Profile()
    model: Model

    def check(self) -> None:
        """Refuse micro-batches that are not equal."""
        size, count = self.data.batch_size, self.optimizer.accumulate
        if size % count:
            raise InputError(
                f"config.optimizer.accumulate={count} does not divide "
                f"config.data.batch_size={size}: micro-batches are of equal size"
            )
