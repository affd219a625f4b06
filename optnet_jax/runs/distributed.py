"""Joining the processes of a run, and ending together, on pods, Slurm, plain hosts."""

import atexit
import contextlib
import errno
import hashlib
import io
import json
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import distributed as jax_distributed  # the store has no public name
from jax.experimental import multihost_utils

from optnet_jax.errors import InputError, one_line
from optnet_jax.runs import files, program

JOIN_SECONDS = 300
"""How long a process waits for the others; one that starts again is back by then."""

QUIET_SECONDS = 5.0
"""A shorter wait is not announced."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", re.ASCII)
_ERROR = "optnet_jax/error"


class Group(NamedTuple):
    """The processes of a run, ``count`` of them, of which this one is ``index``."""

    store: Any  # the client of JAX's coordination service
    index: int
    count: int

    def put(self, key: str, value: str) -> None:
        """Tell all processes; the first value of a key stays."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self.store.key_value_set(key, value)

    def get(self, key: str) -> str | None:
        """Return what a process told, or ``None`` if it has not."""
        try:
            return self.store.key_value_try_get(key)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise


def group() -> Group | None:
    """Return the processes that this one has joined; ``None`` if it is alone."""
    state = jax_distributed.global_state
    if state.client is None or state.num_processes == 1:
        return None
    return Group(state.client, state.process_id, state.num_processes)


def everywhere(holds: bool) -> bool:
    """Return whether something holds on every process; all of them ask."""
    return alike(str(holds)) and holds


def alike(text: str) -> bool:
    """Return whether a text is the same on every process; all of them ask."""
    if group() is None:
        return True
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)
    return bool((multihost_utils.process_allgather(digest) == digest).all())


def initialize(
    detect: bool,
    coordinator_address: str = "",
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_timeout: int = 100,
) -> None:
    """Join the other processes, if there are any.

    A wait for them is announced, and after ``JOIN_SECONDS`` the program ends with one
    line and status 1, which launchers repeat: a host may come back later.

    Args:
        detect: Let JAX find the others: on TPU pods, under Slurm and under MPI.
        coordinator_address: ``host:port`` of process 0, on plain hosts.
        num_processes: How many, on plain hosts.
        process_id: Which this one is, on plain hosts.
        heartbeat_timeout: Seconds of silence after which a process counts as lost. The
            others cannot go on without it: JAX ends them with SIGABRT.

    Raises:
        InputError: if only some of the three are given, if the address cannot be one,
            or if no cluster is found.
    """
    plain = (coordinator_address or None, num_processes, process_id)
    given = [value is not None for value in plain]
    if any(given) and not all(given):
        raise InputError(
            "--coordinator_address, --num_processes and --process_id belong together: "
            "give all three, or --distributed where a cluster tells them"
        )
    silence = {"heartbeat_timeout_seconds": heartbeat_timeout}
    if num_processes is not None and process_id is not None:
        if process_id >= num_processes:
            raise InputError(
                f"--process_id={process_id} must be below --num_processes="
                f"{num_processes}"
            )
        bind = bind_address(coordinator_address)
        _claim(coordinator_address, process_id)
        if process_id == 0:
            check_free(bind)
        who = f"process {process_id} of {num_processes}, at {coordinator_address},"
        _join(
            who,
            coordinator_address=coordinator_address,
            num_processes=num_processes,
            process_id=process_id,
            coordinator_bind_address=bind,
            **silence,
        )
    elif detect:
        try:
            _join("this process", **silence)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"no cluster was found ({error}): give --coordinator_address, "
                "--num_processes and --process_id"
            ) from error


_claimed: dict[str, io.FileIO] = {}
"""The locks of this process's places in runs, kept until the process ends."""


def _claim(address: str, process_id: int) -> None:
    """Refuse a place in a run that another process of this machine has.

    JAX would end all processes of that run.

    Raises:
        InputError: naming the process.
    """
    name = f"optnet_jax.{os.getuid()}.{address}.{process_id}.lock"
    if name in _claimed:
        return
    with contextlib.suppress(OSError):  # a temporary folder that cannot be written
        lock = files.open_lock(Path(tempfile.gettempdir(), name))
        atexit.register(lock.close)
        if owner := files.take_lock(lock):
            raise InputError(
                f"--process_id={process_id} at {address} is running already, as "
                f"{owner}: wait for it, stop it, or give another --coordinator_address"
            )
        _claimed[name] = lock


def bind_address(address: str, seconds: float = 10.0) -> str:
    """Say where process 0 listens: on all its addresses, or on the loopback alone.

    Args:
        address: ``host:port`` of process 0.
        seconds: How long to wait for the name server.

    Raises:
        InputError: if ``address`` is not ``host:port``, or if there is no such host.
        SystemExit: with status 1, if no name server answers.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise InputError(
            f"--coordinator_address={address} is not host:port with a port from 1 to "
            "65535: give the host of process 0 and a port that is free there"
        )
    host, port = match[1].strip("[]"), match[2]
    try:
        program.in_background(lambda: socket.getaddrinfo(host, port)).result(seconds)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        text = (
            f"--coordinator_address={address}: there is no host {host} "
            f"({cause or f'the name server has not answered for {seconds:g} s'}): "
            "give the name or the address of process 0's host"
        )
        late = getattr(error, "errno", None) == socket.EAI_AGAIN
        if late or isinstance(error, TimeoutError):
            # The network may not be up yet: launchers try again.
            program.say_error(text)
            raise SystemExit(1) from error
        raise InputError(text) from error
    # By its text: Debian gives a host's own name a loopback address, there alone.
    if host == "localhost" or re.match(r"127\.|::1$", host):
        return address
    return f"[::]:{port}"


def check_free(bind: str) -> None:
    """Refuse an address that this process cannot listen on.

    Raises:
        InputError: if the port is taken or may not be used.
    """
    host, _, port = bind.rpartition(":")
    # AI_PASSIVE without a host: all addresses.
    name = None if host == "[::]" else host.strip("[]")
    places = socket.getaddrinfo(
        name, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, _, _, where in places:
        with socket.socket(family, kind) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                server.bind(where)
                server.listen()
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    continue  # a family that this machine does not have
                raise InputError(
                    f"process 0 cannot listen on port {port} ({error.strerror}): stop "
                    "the program that does, or give all processes another "
                    "--coordinator_address; --process_id=0 is for one process only"
                ) from error


def _join(who: str, **arguments: Any) -> None:
    """Join the others, in the background: JAX's wait obeys no signal and may abort."""
    # Its handler of SIGTERM would keep a program from ending before there are steps.
    jax.config.update("jax_enable_preemption_service", False)
    arguments["initialization_timeout"] = 2 * JOIN_SECONDS
    joined = program.in_background(lambda: jax.distributed.initialize(**arguments))
    if not futures.wait([joined], QUIET_SECONDS).done:
        program.tell(f"{who} waits up to {JOIN_SECONDS} s for the others")
    if not futures.wait([joined], JOIN_SECONDS).done:
        program.say_error(
            f"{who} has waited {JOIN_SECONDS} s for the others: start them all, with "
            "one --coordinator_address that each can reach, one --num_processes and a "
            "--process_id of its own"
        )
        program.leave(1)
    joined.result()


def listen_for_preemption() -> None:
    """From here on SIGTERM is JAX's: all processes stop at the same step."""
    state = jax_distributed.global_state
    if state.client is not None and state.preemption_sync_manager is None:
        jax.config.update("jax_enable_preemption_service", True)
        state.initialize_preemption_sync_manager()


@contextlib.contextmanager
def together(seconds: float = 1.0) -> Iterator[None]:
    """While it lasts, an error of one process ends all of them with its status.

    The others may be deep in a collective operation that will never be complete, so
    their process is ended from another thread. The state on the disk is as after a
    kill: whole.

    Args:
        seconds: How often a process asks whether another one has failed.
    """
    processes = group()
    if processes is None:
        yield
        return
    stop = threading.Event()
    watcher = program.in_background(lambda: _watch(processes, stop, seconds))
    try:
        yield
    except BaseException as error:
        stop.set()
        futures.wait([watcher])
        if isinstance(error, program.Interrupted) and error.saved:
            raise  # all stop at this step
        status = program.report(error)
        stopped = isinstance(error, program.Interrupted)
        text = f"stopped by {error.name}" if stopped else one_line(error)
        processes.put(_ERROR, json.dumps([processes.index, status, text]))
        _leave(status)
    else:
        stop.set()
        futures.wait([watcher])


def _watch(processes: Group, stop: threading.Event, seconds: float) -> None:
    """End this process when another one has failed."""
    while not stop.wait(seconds):
        try:
            told = processes.get(_ERROR)
        except jax.errors.JaxRuntimeError:
            return  # process 0 is gone: JAX ends this one
        if told is not None:
            index, status, text = json.loads(told)
            program.say_error(f"process {index} ended: {text}")
            _leave(status)


def _leave(status: int, seconds: float = 10.0) -> None:
    """End this process once the others are about to, too, or after ``seconds``.

    JAX's shutdown waits for all: were process 0 gone first, the others would be ended
    with SIGABRT.
    """
    # Its error: the others are gone.
    futures.wait([program.in_background(jax.distributed.shutdown)], seconds)
    program.leave(status)
