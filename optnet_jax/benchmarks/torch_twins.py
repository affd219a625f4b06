"""PyTorch's form of what is compared: the same weights, the same step, channels-last.

The networks are ResNet, HB-Net, DenseNet and AGD-Net, written out, over our own tree of
weights. AGD-Net has the fast form of
:class:`~optnet_jax.networks.dense_layer.DenseUnit` too: the comparison is of
frameworks, not of formulas.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch.nn import functional

from optnet_jax.benchmarks.programs import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY
from optnet_jax.benchmarks.timing import Runs
from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.recurrences import (
    HeavyBall,
    HistorySum,
    Recurrence,
    methods,
    number_of_paths,
)
from optnet_jax.recurrences.coefficients import momentum
from optnet_jax.runs.program import tell

AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # [in, out] -> [out, in], HWIO -> OIHW
TOLERANCE = 1e-3
"""Largest difference that is taken for rounding, by the largest value."""


class Network(torch.nn.Module):
    """The twin of an unrolled network, with its weights.

    Args:
        network: of the ResNet and HB-Net or the DenseNet and AGD-Net family.
        variables: its ``params`` and ``batch_stats``.
        device: "cpu" or "cuda".

    Attributes:
        trained: the parameters, leaves of autograd.
    """

    def __init__(self, network: Any, variables: Any, device: str):
        super().__init__()
        self.network = network
        leaves: Mapping[tuple[str, ...], Any] = flatten_dict(dict(variables))  # pyright: ignore
        tensors = {path: _tensor(leaf, device) for path, leaf in leaves.items()}
        trained = [path for path in tensors if path[0] == "params"]
        self.trained = [tensors[path].requires_grad_() for path in trained]
        # A layer's parameters and running statistics lie side by side.
        self.weights = unflatten_dict({path[1:]: t for path, t in tensors.items()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images [B, C, H, W]."""
        weights = self.weights
        x = self._stem(images)
        for i in range(len(self.network.stage_sizes)):
            stage = weights[f"stage_{i}"]
            if "propagation" in stage:
                x = self._residual_stage(stage, x, strides=2 if i else 1)
                continue
            x = self._dense_stage(stage, x)
            if f"transition_{i}" in weights:
                transition = weights[f"transition_{i}"]
                x = _conv(self._norm_relu(x, transition["norm"]), transition["conv"])
                x = functional.avg_pool2d(x, 2)
        dense = "norm" in weights
        x = self._norm_relu(x, weights["norm"]) if dense else functional.relu(x)
        head = weights["head"]
        return functional.linear(x.mean((2, 3)), head["kernel"], head["bias"])

    def _stem(self, x: torch.Tensor) -> torch.Tensor:
        imagenet = self.network.stem == "imagenet"
        x = _conv(x, self.weights["stem_conv"], 2 if imagenet else 1)
        if "stem_norm" in self.weights:
            x = self._norm_relu(x, self.weights["stem_norm"])
        return functional.max_pool2d(x, 3, 2, 1) if imagenet else x

    def _norm(self, x: torch.Tensor, w: Any) -> torch.Tensor:
        return functional.batch_norm(
            x, w["mean"], w["var"], w["scale"], w["bias"], self.training
        )

    def _norm_relu(self, x: torch.Tensor, w: Any) -> torch.Tensor:
        return functional.relu(self._norm(x, w), inplace=True)

    def _unit(self, x: torch.Tensor, w: Any, strides: int = 1) -> torch.Tensor:
        """T = conv3×3-BN-ReLU-conv3×3-BN."""
        x = self._norm_relu(_conv(x, w["conv_0"], strides), w["norm_0"])
        return self._norm(_conv(x, w["conv_1"]), w["norm_1"])

    def _residual_stage(self, w: Any, x: torch.Tensor, strides: int) -> torch.Tensor:
        """(16) with β1 = 1: ResNet has β2 = 0 and a ReLU after the sum, HB-Net -1."""
        recurrence, previous = self.network.recurrence, x
        beta2, activate = float(recurrence.beta2), lambda x: x
        if recurrence.post_activation is not None:
            activate = functools.partial(functional.relu, inplace=True)
        if "transition" in w:
            transition = w["transition"]
            new = self._unit(x, transition["unit"], strides)
            previous = self._shortcut(x, transition.get("shortcut"), strides, new)
            x = activate(new + previous)
        for k in range(len(w["propagation"])):
            new = self._unit(x, w["propagation"][f"layer_{k}"]["transform"]) + x
            if beta2:
                new = torch.add(new, previous, alpha=beta2)
            x, previous = activate(new), x
        return x

    def _shortcut(
        self, x: torch.Tensor, w: Any, strides: int, like: torch.Tensor
    ) -> torch.Tensor:
        if w is not None:
            return self._norm(_conv(x, w["conv"], strides), w["norm"])
        x = x[:, :, ::strides, ::strides]
        return functional.pad(x, (0, 0, 0, 0, 0, like.shape[1] - x.shape[1]))

    def _dense_stage(self, w: Any, x: torch.Tensor) -> torch.Tensor:
        """Return all iterates of (21), concatenated."""
        depth, beta = (
            sum(name.startswith("layer_") for name in w),
            self.network.recurrence.beta,
        )
        betas = np.asarray(momentum(depth + 1)).tolist()
        iterates, d = [x], 0.0
        for k in range(depth):
            start = k * (k + 1) // 2
            alpha = w["alpha"][start : start + k + 1] if "alpha" in w else None
            z = self._dense_layer(w[f"layer_{k}"], iterates, alpha)
            if beta and k > 0:
                d = betas[k + 1] * (iterates[-1] + d)
                z = z - beta * d
            iterates.append(z)
        return torch.cat(iterates, 1)

    def _dense_layer(self, w: Any, iterates: list, alpha: Any) -> torch.Tensor:
        """BN-ReLU-conv of the concatenation, α_j on the slices of the kernel."""
        first = "1" if "conv1" in w else ""
        kernel = w[f"conv{first}"]["kernel"]
        if alpha is not None:
            channels = [z.shape[1] for z in iterates]
            channels = torch.tensor(channels, device=alpha.device)
            kernel = kernel * alpha.repeat_interleave(channels)[:, None, None]
        x = self._norm_relu(torch.cat(iterates, 1), w[f"norm{first}"])
        x = _conv(x, {"kernel": kernel})
        return _conv(self._norm_relu(x, w["norm2"]), w["conv2"]) if first else x


def _tensor(leaf: Any, device: str) -> torch.Tensor:
    array = np.array(leaf, np.float32).transpose(AXES[leaf.ndim])
    layout = torch.channels_last if leaf.ndim == 4 else torch.contiguous_format
    return torch.from_numpy(array).to(device).contiguous(memory_format=layout)


def _conv(x: torch.Tensor, w: Any, strides: int = 1) -> torch.Tensor:
    kernel = w["kernel"]
    return functional.conv2d(x, kernel, None, strides, kernel.shape[-1] // 2)


def network_runs(
    device: str,
    logits: Any,
    name: str,
    variables: Any,
    batch: Any,
    compiled: bool,
    bfloat16: bool,
) -> Runs:
    """Make the training step and inference of a network.

    Args:
        device: "cpu" or "cuda".
        logits: ours of evaluation, [B, num_classes].
        name: of the network.
        variables: its ``params`` and ``batch_stats``.
        batch: ``image`` and ``label``.
        compiled: after ``torch.compile`` instead of eager.
        bfloat16: compute in bfloat16.

    Returns:
        ``train``, a step with the cross-entropy, and ``inference``; nothing of a
        network that is not written out here, which is said.

    Raises:
        InputError: PyTorch's logits are others.
    """
    network = create(name)
    of_stages = isinstance(network, RecurrenceNet)
    if not (of_stages and isinstance(network.recurrence, HeavyBall | HistorySum)):
        tell(f"{name} has no PyTorch form: only ours is measured")
        return {}
    module = Network(network, variables, device)
    images = torch.from_numpy(np.array(batch["image"], np.float32)).to(device)
    images = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.array(batch["label"], np.int64)).to(device)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        _check("network", logits, module.eval()(images))
    forward: Any = torch.compile(module) if compiled else module
    precision = functools.partial(
        torch.autocast, device, torch.bfloat16, enabled=bfloat16
    )

    def loss() -> torch.Tensor:
        module.train()
        with precision():
            return functional.cross_entropy(forward(images), labels)

    def infer() -> torch.Tensor:
        module.eval()
        with torch.inference_mode(), precision():
            return forward(images)

    fields = {"weight_decay": WEIGHT_DECAY, "momentum": MOMENTUM, "nesterov": True}
    sgd = torch.optim.SGD(module.trained, LEARNING_RATE, **fields)
    return _runs(device, train=_step(sgd, loss), inference=infer)


def structure_runs(
    device: str, outputs: Any, weights: Any, x0: Any, targets: Any
) -> Runs:
    """Make the training step of each structure of Table 2: (15) by SGD.

    Args:
        device: "cpu" or "cuda".
        outputs: key of a method -> our x_K.
        weights: key -> ``transform``, for a second path ``transform_prime``: [K, n, n].
        x0: inputs, [samples, n].
        targets: as many.

    Returns:
        name of a method -> its step.

    Raises:
        InputError: PyTorch's outputs are others.
    """
    targets = torch.from_numpy(np.array(targets)).to(device)
    runs = {}
    for method in map(methods.find, weights):
        recurrence, name = method.recurrence(), method.key
        paths = ("transform_prime", "transform")[-number_of_paths(recurrence) :]
        kernels = [np.array(weights[name][path]["linear"]["kernel"]) for path in paths]
        # A matrix is a parameter of its own, as in a list of torch.nn.Linear.
        layers = [
            tuple(torch.from_numpy(w).to(device).requires_grad_() for w in matrices)
            for matrices in zip(*kernels, strict=True)
        ]
        forward = functools.partial(_propagate, recurrence, layers, x0, device)
        _check(name, outputs[name], forward())

        def loss(forward: Any = forward) -> torch.Tensor:
            return functional.mse_loss(forward(), targets)

        parameters = [w for layer in layers for w in layer]
        runs[method.name] = _step(torch.optim.SGD(parameters, LEARNING_RATE), loss)
    return _runs(device, **runs)


def _propagate(
    recurrence: Recurrence, layers: list[tuple], x0: Any, device: str
) -> torch.Tensor:
    """Return x_K by the recurrence's own step, whose arithmetic PyTorch does too."""
    state = jax.tree.map(
        lambda x: torch.from_numpy(np.array(x)).to(device), recurrence.init(x0)
    )
    coefficients = recurrence.coefficients(len(layers))
    for k, matrices in enumerate(layers):
        operators = [lambda x, w=w: torch.sigmoid(x @ w) for w in matrices]
        operator: Any = tuple(operators) if len(operators) == 2 else operators[0]
        c = {name: float(values[k]) for name, values in coefficients.items()}
        state = recurrence.step(operator, state, c)
    return recurrence.output(state)


def _step(sgd: torch.optim.SGD, loss: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    def step() -> torch.Tensor:
        sgd.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        sgd.step()
        return value

    return step


def _check(name: str, ours: Any, theirs: torch.Tensor) -> None:
    array = theirs.detach().float().cpu().numpy()
    difference = np.abs(np.asarray(ours, np.float32) - array).max()
    if not difference <= TOLERANCE * np.abs(array).max():
        raise InputError(
            f"PyTorch's {name} differs by {difference:.1e}: the two are not the same, "
            f"and their times would mean nothing"
        )


def _runs(device: str, **functions: Callable[[], Any]) -> Runs:
    """Return the runs, each of which waits until it is done."""
    if device == "cpu":
        torch.set_num_threads(1)
        return functions

    def waiting(function: Callable[[], Any]) -> Any:
        result = function()
        torch.cuda.synchronize()
        return result

    return {k: functools.partial(waiting, f) for k, f in functions.items()}
