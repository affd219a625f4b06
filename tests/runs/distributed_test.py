import json
import os
import socket
import tempfile
import threading

import jax
import pytest

from optnet_jax.errors import InputError
from optnet_jax.runs import distributed, program

WAIT = distributed.JOIN_SECONDS


@pytest.fixture
def join(monkeypatch, tmp_path):
    """Replaces JAX's joining by a function; its calls are written down."""
    calls = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(distributed, "_claimed", {})

    def replace(work=lambda: None):
        def initialize(**named):
            calls.append(named)
            work()

        monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
        return calls

    before = jax.config.jax_enable_preemption_service
    yield replace
    jax.config.update("jax_enable_preemption_service", before)


@pytest.fixture
def left(monkeypatch):
    """Ends the calling thread instead of the program; returns the statuses."""
    statuses = []

    def leave(status):
        statuses.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(program, "leave", leave)
    return statuses


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_plain_hosts_are_told(join):
    calls = join()
    distributed.initialize(False)
    assert calls == []
    assert distributed.group() is None
    distributed.initialize(False, "10.0.0.1:1234", 4, 3, 20)
    assert calls == [
        {
            "coordinator_address": "10.0.0.1:1234",
            "num_processes": 4,
            "process_id": 3,
            "coordinator_bind_address": "[::]:1234",
            "heartbeat_timeout_seconds": 20,
            "initialization_timeout": 2 * WAIT,
        }
    ]


def test_a_cluster_is_detected(join):
    calls = join()
    distributed.initialize(True)
    assert calls == [
        {"heartbeat_timeout_seconds": 100, "initialization_timeout": 2 * WAIT}
    ]


def test_no_cluster_is_one_line(join):
    def fail():
        raise ValueError("coordinator_address should be defined.")

    join(fail)
    with pytest.raises(InputError, match="no cluster was found.*give --coordinator"):
        distributed.initialize(True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", None, None), "belong together"),
        (("", 2, None), "belong together"),
        (("", 2, 0), "belong together"),
        (("host:1", 2, None), "belong together"),
        (("host:1", 2, 2), "--process_id=2 must be below"),
    ],
)
def test_half_an_address_or_an_index_out_of_range_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        distributed.initialize(False, *given)


@pytest.mark.parametrize(
    "address",
    [
        *("x:y", ":-1", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "h:65536"),
        *(
            "h:1:2",
            "http://h:1",
            "a b:1",
            "h:１",
            "::1:80",
            "[::1]",
            "[::1:80",
            "h:1\n",
        ),
    ],
)
@pytest.mark.parametrize("index", [0, 1])
def test_what_is_no_address_is_refused_before_anything_starts(join, address, index):
    calls = join()
    with pytest.raises(InputError, match="is not host:port with a port from 1 to"):
        distributed.initialize(False, address, 2, index)
    assert calls == []


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64, "-"])
def test_an_unknown_host_is_named(host, monkeypatch):
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(InputError, match=rf"there is no host {host} \(Name or service"):
        distributed.bind_address(f"{host}:1234")


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch, capsys):
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: answer.wait())
    with pytest.raises(SystemExit, match="1"):  # which launchers repeat
        distributed.bind_address("host:1234", seconds=0.01)
    answer.set()
    assert "has not answered for 0.01 s" in capsys.readouterr().err


def test_a_network_that_is_not_up_yet_is_tried_again(monkeypatch, capsys):
    def later(host, port):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", later)
    with pytest.raises(SystemExit, match="1"):
        distributed.bind_address("host:1234")
    assert "there is no host host (Temporary failure" in capsys.readouterr().err


def test_a_place_in_a_run_is_one_process_s(join, monkeypatch):
    calls, address = join(), f"127.0.0.1:{free_port()}"
    distributed.initialize(False, address, 2, 1)
    distributed.initialize(False, address, 2, 1)  # by the same process
    monkeypatch.setattr(distributed, "_claimed", {})  # as another process
    owner = f"process {os.getpid()} on "
    with pytest.raises(
        InputError, match=f"process_id=1 at .* running already, as {owner}"
    ):
        distributed.initialize(False, address, 2, 1)
    assert len(calls) == 2


@pytest.mark.parametrize("address", ["127.0.0.1:81", "localhost:81", "[::1]:81"])
def test_a_local_run_listens_to_this_machine_alone(address):
    assert distributed.bind_address(address) == address


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_taken_port_is_refused_by_process_0(join, everywhere):
    calls = join()
    with socket.create_server(("" if everywhere else "127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="cannot listen on port .* in use"):
            distributed.initialize(False, address, 2, 0)
        distributed.initialize(False, address, 2, 1)
    assert [call["process_id"] for call in calls] == [1]


@pytest.mark.parametrize("bind", ["127.0.0.1:{}", "[::]:{}", "[::1]:{}"])
def test_a_free_port_is_not_refused(bind):
    distributed.check_free(bind.format(free_port()))


def test_a_wait_is_announced_and_ends(join, left, monkeypatch, capsys):
    never = threading.Event()
    join(never.wait)
    monkeypatch.setattr(distributed, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(distributed, "JOIN_SECONDS", 0.01)
    with pytest.raises(SystemExit):
        distributed.initialize(False, f"127.0.0.1:{free_port()}", 3, 1)
    never.set()
    assert left == [1]
    said = capsys.readouterr()
    assert said.out.startswith("process 1 of 3, at 127.0.0.1:")
    assert said.out.endswith("waits up to 0.01 s for the others\n")
    assert said.err.startswith("error: process 1 of 3, at 127.0.0.1:")
    assert "a --process_id of its own" in said.err
    assert said.err.count("\n") == 1


@pytest.fixture
def two(store, left, monkeypatch):
    """Two processes that share a store; returns the one that this one is."""
    monkeypatch.setattr(distributed.jax.distributed, "shutdown", lambda: None)

    def become(index):
        processes = distributed.Group(store, index, 2)
        monkeypatch.setattr(distributed, "group", lambda: processes)
        return processes

    return become


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (InputError("give\nanother"), 2, "give another"),
        (RuntimeError("boom"), 1, "boom"),
        (program.Interrupted(15), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
    ],
)
def test_an_error_of_one_process_ends_the_others(
    two, store, left, monkeypatch, capsys, error, status, text
):
    two(0)
    with pytest.raises(SystemExit), distributed.together():
        raise error
    assert left == [status]
    (told,) = store.values.values()
    assert json.loads(told) == [0, status, text]

    # The other process is deep in work that does not return.
    processes, ended = two(1), threading.Event()
    capsys.readouterr()
    monkeypatch.setattr(program, "leave", lambda status: ended.set())
    stop = threading.Event()
    watcher = program.in_background(lambda: distributed._watch(processes, stop, 0.001))
    assert ended.wait(60)
    stop.set()
    watcher.result(60)
    assert f"error: process 0 ended: {text}\n" in capsys.readouterr().err


def test_what_all_do_is_no_error_of_one(two, store, left):
    two(0)
    with pytest.raises(program.Interrupted), distributed.together(0.001):
        raise program.Interrupted(15, saved=True)
    with distributed.together(0.001):
        pass
    assert (store.values, left) == ({}, [])


def test_a_lost_coordinator_ends_the_watch_only(two, left, monkeypatch):
    processes = two(1)

    def gone(key):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: failed to connect")

    monkeypatch.setattr(processes.store, "key_value_try_get", gone)
    distributed._watch(processes, threading.Event(), 0.0)
    assert left == []


def test_who_cannot_take_leave_of_the_others_goes_all_the_same(left, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(distributed.jax.distributed, "shutdown", never.wait)
    with pytest.raises(SystemExit):
        distributed._leave(2, seconds=0.01)
    never.set()
    assert left == [2]
