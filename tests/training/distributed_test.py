import pytest

from optnet_jax.errors import InputError
from optnet_jax.training import distributed


@pytest.fixture
def calls(monkeypatch):
    calls = []
    monkeypatch.setattr(
        distributed.jax.distributed,
        "initialize",
        lambda *args, **named: calls.append((*args, named)),
    )
    return calls


def test_one_process_joins_nobody(calls):
    distributed.initialize(False)
    assert calls == []


def test_plain_hosts_are_told(calls):
    distributed.initialize(False, "10.0.0.1:1234", 4, 3, 20)
    silence = {"heartbeat_timeout_seconds": 20}
    assert calls == [("10.0.0.1:1234", 4, 3, silence)]


def test_a_cluster_is_detected(calls):
    distributed.initialize(True)
    assert calls == [({"heartbeat_timeout_seconds": 100},)]


def test_no_cluster_is_one_line(monkeypatch):
    def fail(**named):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(distributed.jax.distributed, "initialize", fail)
    with pytest.raises(InputError, match="no cluster was found.*give --coordinator"):
        distributed.initialize(True)


@pytest.mark.parametrize(
    "given", [("host:1", None, None), ("", 2, None), ("", 2, 0), ("host:1", 2, None)]
)
def test_half_an_address_is_refused(given):
    with pytest.raises(InputError, match="belong together"):
        distributed.initialize(False, *given)


def test_an_index_out_of_range_is_refused():
    with pytest.raises(InputError, match="--process_id=2 must be below"):
        distributed.initialize(False, "host:1", 2, 2)
