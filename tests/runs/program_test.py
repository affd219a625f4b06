import signal
import subprocess
import sys
import textwrap

import pytest

from optnet_jax.runs import program

DONE = 'print("done", file=sys.stderr)'


def command(body):
    """A program of its own: what it does at its edge is done to the process."""
    text = "import os, signal, sys, time\nfrom optnet_jax.runs import program\n"
    text += "with program.edge():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return [sys.executable, "-c", text]


def start(body, **named):
    return subprocess.Popen(command(body), stderr=subprocess.PIPE, text=True, **named)


def finish(body, **named):
    process = start(body, **named)
    output, error = process.communicate(timeout=300)
    return process.returncode, output, error


def in_shell(body, before="", redirection=""):
    """The same with the shell's redirections, and as the argument of a command."""
    return subprocess.run(
        ["bash", "-c", f'{before} "$0" "$@" {redirection}', *command(body)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_mistake_is_one_line_and_status_2():
    status, _, error = finish(
        "from optnet_jax.errors import InputError\nraise InputError('a\\n b')"
    )
    assert (status, error) == (2, "error: a b\n")


def test_a_fault_keeps_its_traceback():
    status, _, error = finish("raise RuntimeError('boom')")
    assert status == 1
    assert error.startswith("Traceback")
    assert error.endswith("RuntimeError: boom\n")


@pytest.mark.parametrize("status", [0, 3])
def test_a_status_is_passed_on(status):
    assert finish(f"sys.exit({status})")[0] == status


@pytest.mark.parametrize("number", program.STOPPING)
def test_being_stopped_is_one_line_and_the_signals_status(number):
    process = start(
        """
        try:
            os.write(1, b"ready")
            time.sleep(600)
        finally:
            print("cleaned up", flush=True)
        """,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == "ready"
    process.send_signal(number)
    output, error = process.communicate(timeout=300)
    assert output == "cleaned up\n"
    assert error == f"stopped by {number.name}\n"
    assert process.returncode == 128 + number


def test_a_second_signal_ends_it_in_the_middle_of_cleaning_up():
    status, _, error = finish(
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(600)
        """
    )
    assert (status, error) == (130, "")


@pytest.mark.parametrize("number", program.STOPPING)
def test_a_request_is_not_lost_where_python_drops_exceptions(number):
    """As in the weak references of JAX's caches, while it traces and compiles."""
    status, _, error = finish(
        f"""
        import weakref

        class Thing:
            pass

        thing = Thing()
        reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), {int(number)}))
        del thing
        time.sleep(600)
        """
    )
    assert (status, error) == (128 + number, f"stopped by {number.name}\n")


def test_other_exceptions_that_python_drops_are_shown():
    status, _, error = finish(
        """
        import weakref

        class Thing:
            def __del__(self):
                raise RuntimeError("boom")

        Thing()
        """
    )
    assert status == 0
    assert "RuntimeError: boom" in error


def test_after_the_end_a_signal_leaves_no_traceback():
    body = (
        "import atexit\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    )
    assert finish(body)[::2] == (130, "")


def test_being_stopped_waits_for_no_thread():
    body = (
        "import threading\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    assert finish(body)[::2] == (143, "stopped by SIGTERM\n")


def test_what_nohup_ignores_stays_ignored():
    body = "os.kill(os.getpid(), signal.SIGHUP); print('lives')"
    assert in_shell(body).returncode == 128 + signal.SIGHUP
    done = in_shell(body, before="nohup")
    assert (done.returncode, done.stdout) == (0, "lives\n")


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">/dev/full", "(No space left on device): going on without it\ndone\n"),
        ("| true", "(Broken pipe): going on without it\ndone\n"),
        (">&-", "done\n"),
        ("2>&-", ""),
        (">/dev/full 2>&1", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_a_screen_that_fails_loses_no_work(redirection, said, tmp_path):
    """The pipe's reader is gone before the first line, whichever is faster."""
    file = tmp_path / "work"
    body = f"""
    while {redirection == "| true"}:
        try:
            os.write(1, b"x")
        except BrokenPipeError:
            break
    for i in range(20000):
        print(i, "×" * 20)
    sys.stdout.flush()
    with open({str(file)!r}, "w") as work:
        work.write("whole")
        print(work.fileno())
    {DONE}
    """
    done = in_shell(body, redirection=redirection)
    assert file.read_text() == "whole"
    assert (done.stdout == "") == redirection.startswith((">", "|", "<"))
    assert done.stderr.endswith(said)
    assert done.stderr.count("\n") == said.count("\n")


def test_a_status_is_not_lost_with_the_screen():
    done = in_shell("print('x')\nsys.exit(5)", redirection=">/dev/full")
    assert done.returncode == 5


def test_a_pipe_that_is_full_is_waited_for():
    """Some programs leave a terminal's descriptor non-blocking behind."""
    process = start(
        """
        os.set_blocking(1, False)
        for i in range(100000):
            print(i)
        """,
        stdout=subprocess.PIPE,
    )
    output, error = process.communicate(timeout=300)
    assert (process.returncode, error) == (0, "")
    assert output.split() == [str(i) for i in range(100000)]


def test_a_screen_that_lacks_a_letter_shows_its_number(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    status, output, _ = finish("print('3 × 3')", stdout=subprocess.PIPE)
    assert (status, output) == (0, "3 \\xd7 3\n")
