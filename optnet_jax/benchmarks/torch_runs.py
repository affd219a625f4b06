"""PyTorch's side of the comparison: the same weights, the same step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flax.traverse_util import flatten_dict
from torch import nn

from optnet_jax.benchmarks.jax_runs import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY
from optnet_jax.benchmarks.torch_networks import torch_network
from optnet_jax.errors import InputError

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # [in, out] -> [out, in], HWIO -> OIHW
_WITHOUT_MODULE = ("propagation", "transform")
TOLERANCE = 1e-3
"""Largest difference of the logits that is taken for rounding, by the largest logit."""


def copy_weights(variables: Any, module: nn.Module) -> None:
    """Copy ``params`` and ``batch_stats`` of an unrolled network into its PyTorch twin.

    Args:
      variables: the network's.
      module: of :func:`~optnet_jax.benchmarks.torch_networks.torch_network`.
    """
    state = {}
    leaves: dict[tuple[str, ...], Any] = flatten_dict(dict(variables))  # pyright: ignore
    for path, value in leaves.items():
        *modules, leaf = [part for part in path[1:] if part not in _WITHOUT_MODULE]
        array = np.array(value, np.float32).transpose(_AXES[value.ndim])
        name = ".".join([*modules, _LEAVES.get(leaf, leaf)])
        state[name] = torch.from_numpy(array.copy())
    counters = {k: v for k, v in module.state_dict().items() if k.endswith("_tracked")}
    module.load_state_dict({**counters, **state}, strict=True)


class Twin:
    """A network's PyTorch twin with its weights and its batch.

    Attributes:
      module: in channels-last layout.
      images: [B, C, H, W], channels-last.
      labels: int64 [B].
    """

    def __init__(self, network: Any, variables: Any, batch: Any, device: str = "cpu"):
        """Copy the weights and the batch to the device."""
        self.device = device
        module = torch_network(network)
        copy_weights(variables, module)
        layout: Any = {"memory_format": torch.channels_last}
        self.module = module.to(device).to(**layout)
        images = torch.from_numpy(np.array(batch["image"], np.float32))
        self.images = images.permute(0, 3, 1, 2).to(device).to(**layout)
        self.labels = torch.from_numpy(np.array(batch["label"], np.int64)).to(device)

    def check(self, logits: Any, tolerance: float = TOLERANCE) -> float:
        """Compare the logits of evaluation with ours.

        Args:
          logits: ours, [B, num_classes].
          tolerance: largest difference, relative to the largest logit.

        Returns:
          The difference.

        Raises:
          InputError: it is above the tolerance.
        """
        self.module.eval()
        with torch.no_grad():
            theirs = self.module(self.images).float().cpu().numpy()
        ours = np.asarray(logits, np.float32)
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        if not difference <= tolerance:
            raise InputError(
                f"PyTorch's logits differ by {difference:.1e} of the largest: the "
                f"networks are not the same, and their times would mean nothing"
            )
        return difference

    def training_run(self, compiled: bool, bfloat16: bool) -> Callable[[], Any]:
        """Return one step: forward, cross-entropy, backward, SGD."""
        module: Any = torch.compile(self.module) if compiled else self.module
        sgd = torch.optim.SGD(
            self.module.parameters(),
            LEARNING_RATE,
            MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )

        def run() -> Any:
            module.train()
            sgd.zero_grad(set_to_none=True)
            with self._precision(bfloat16):
                loss = nn.functional.cross_entropy(module(self.images), self.labels)
            loss.backward()
            sgd.step()
            self._wait()
            return loss

        return run

    def inference_run(self, compiled: bool, bfloat16: bool) -> Callable[[], Any]:
        """Return one forward pass with the running statistics."""
        module: Any = torch.compile(self.module) if compiled else self.module

        def run() -> Any:
            module.eval()
            with torch.inference_mode(), self._precision(bfloat16):
                logits = module(self.images)
            self._wait()
            return logits

        return run

    def _precision(self, bfloat16: bool) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=bfloat16)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
