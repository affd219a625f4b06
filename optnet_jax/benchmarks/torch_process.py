"""PyTorch in a process of its own, which takes turns with ours.

Neither then runs with the other's settings of the C library, its threads or its memory:
each is as fast as for a user who has only that one.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import jax

from optnet_jax.errors import InputError

KINDS = ("train", "inference")


class TorchProcess:
    """A network's PyTorch twin that has been found to compute the same logits.

    Used in a ``with`` statement, which ends the process.
    """

    def __init__(self, name: str, variables: Any, batch: Any, logits: Any, **form: Any):
        """Start the process and wait until its logits are compared.

        Args:
          name: of the network.
          variables: ``params`` and ``batch_stats``.
          batch: ``image`` and ``label``.
          logits: ours of evaluation, in float32.
          **form: ``compiled`` and ``bfloat16``, of
            :meth:`~optnet_jax.benchmarks.torch_runs.Twin.training_run`.

        Raises:
          InputError: PyTorch's logits are others.
        """
        # A fork would copy JAX's locks, but not the threads that release them.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        host = jax.device_get((variables, batch, logits))
        self._process = context.Process(
            target=_serve, args=(theirs, name, host, device, form), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> TorchProcess:
        """Return the process."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()

    def seconds(self, kind: str) -> float:
        """Let it run once, and return the seconds that it took.

        Args:
          kind: one of :data:`KINDS`.

        Raises:
          InputError: it ended.
        """
        self._connection.send(kind)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise InputError("PyTorch's process ended: see its message above") from None
        if isinstance(answer, InputError):
            raise answer
        return answer


def _serve(
    connection: Connection, name: str, host: Any, device: str, form: dict[str, bool]
) -> None:
    """The process: compare the logits, then run what is asked for until the end."""
    # The coefficients of a network are computed by JAX, which would take most of a GPU.
    jax.config.update("jax_platforms", "cpu")
    import time

    import torch

    from optnet_jax.benchmarks.timing import timed
    from optnet_jax.benchmarks.torch_runs import Twin
    from optnet_jax.networks import create

    clock = time.perf_counter
    if device == "cpu":
        torch.set_num_threads(1)
        clock = time.process_time
    variables, batch, logits = host
    twin = Twin(create(name), variables, batch, device)
    try:
        connection.send(twin.check(logits))
    except InputError as error:
        connection.send(error)
        return
    runs = {
        "train": timed(twin.training_run(**form), clock),
        "inference": timed(twin.inference_run(**form), clock),
    }
    while True:
        try:
            kind = connection.recv()
        except EOFError:  # the other end was closed
            return
        connection.send(runs[kind]())
