import concurrent.futures
import os
import signal

import jax
import pytest

from optnet_jax.runs import distributed, interruption, program
from optnet_jax.runs.interruption import Interruption


@pytest.mark.parametrize("number", program.STOPPING)
def test_a_signal_is_noted_and_gives_the_exit_status(number, capfd):
    with Interruption() as noted:
        assert not noted.requested(1)
        os.kill(os.getpid(), number)
        assert noted.requested(2)
        assert noted.stop().code == 128 + number
    assert f"{number.name}: saving after this step" in capfd.readouterr().err


def test_a_second_ctrl_c_stops_at_once():
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_earlier_handlers_come_back():
    before = [signal.getsignal(number) for number in program.STOPPING]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in program.STOPPING] == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as noted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not noted.requested(1)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_noted_and_that_is_said(capsys):
    before = [signal.getsignal(number) for number in program.STOPPING]

    def work():
        with Interruption() as noted:
            during = [signal.getsignal(number) for number in program.STOPPING]
            return during, noted.requested(1)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == (before, False)
    assert capsys.readouterr().out.count("not in the main thread") == 1


def test_several_processes_hand_every_signal_to_jaxs_service(monkeypatch):
    """A handler of SIGTERM stands in for the one that JAX installs."""
    notices = []
    before = signal.signal(signal.SIGTERM, lambda *args: notices.append(args[0]))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "listen_for_preemption", lambda: None)
    monkeypatch.setattr(
        interruption.multihost_utils,
        "reached_preemption_sync_point",
        lambda step: len(notices) > 0 and step == 5,
    )
    try:
        with Interruption() as noted:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert notices == [signal.SIGTERM]
            assert not noted.requested(4)
            assert noted.requested(5)
            assert noted.stop().code == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
