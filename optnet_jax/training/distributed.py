"""Joining the processes of a run, on TPU pods, Slurm, or plain hosts."""

import jax

from optnet_jax.errors import InputError


def initialize(
    detect: bool,
    coordinator_address: str = "",
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_timeout: int = 100,
) -> None:
    """Join the other processes, if there are any.

    Args:
        detect: Let JAX find the others: on TPU pods, under Slurm and under MPI.
        coordinator_address: ``host:port`` of process 0, on plain hosts.
        num_processes: Number of processes, on plain hosts.
        process_id: Index of this one, on plain hosts.
        heartbeat_timeout: Seconds of silence after which a process counts as lost. The
            others cannot go on without it: JAX ends them with SIGABRT.

    Raises:
        InputError: if only some of the three are given, or no cluster is found.
    """
    plain = (coordinator_address or None, num_processes, process_id)
    given = [value is not None for value in plain]
    if any(given) and not all(given):
        raise InputError(
            "--coordinator_address, --num_processes and --process_id belong together: "
            "give all three, or --distributed where a cluster tells them"
        )
    if num_processes is not None and process_id is not None:
        if process_id >= num_processes:
            raise InputError(
                f"--process_id={process_id} must be below --num_processes="
                f"{num_processes}"
            )
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=heartbeat_timeout,
        )
    elif detect:
        try:
            jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat_timeout)
        except ValueError as error:
            raise InputError(
                f"no cluster was found ({error}): give --coordinator_address, "
                "--num_processes and --process_id"
            ) from error
