import json
import signal
import subprocess
import sys

import pytest

# Stands in for Python: notes its flags and what the launcher's process is to do next.
PYTHON = """
[[ $1 != -c ]] || {{ echo 4321; exit; }}
id=${{*: -1}}
id=${{id#--process_id=}}
echo "$*" >>{folder}/log.$id
{program}
"""


@pytest.fixture
def local(tmp_path, launch):
    """The launcher with a stand-in for Python."""

    def call(*arguments, program):
        launch.stand_in(
            tmp_path, "python", PYTHON.format(folder=tmp_path, program=program)
        )
        done = launch.call("local.sh", *arguments, folder=tmp_path)
        logs = sorted(tmp_path.glob("log.*"))
        return done, [log.read_text("utf-8").splitlines() for log in logs]

    return call


def test_dry_run_prints_one_command_for_each_process(launch):
    done = launch.call(
        "local.sh", "--processes=3", "--port=1234", "--dry-run", "--", "--config=x"
    )
    assert [line.split() for line in done.stdout.splitlines()] == [
        [
            *["python", "-m", "optnet_jax.main", "--config=x"],
            "--coordinator_address=127.0.0.1:1234",
            "--num_processes=3",
            f"--process_id={i}",
        ]
        for i in range(3)
    ]


def test_starts_every_process_once_when_all_goes_well(local):
    done, logs = local("--processes=3", "--", "--config=a b", program="exit 0")
    assert done.returncode == 0, done.stderr
    assert logs == [
        [
            "-m optnet_jax.main --config=a b --coordinator_address=127.0.0.1:4321 "
            f"--num_processes=3 --process_id={i}"
        ]
        for i in range(3)
    ]


# Process 1 dies at its first start; the other one hangs until then, as a peer would.
DIES_ONCE = """
[[ $(wc -l <{folder}/log.$id) == 1 ]] || exit 0
[[ $id == 1 ]] || exec sleep 600
exit 134
"""


def test_when_one_dies_all_are_started_again(local, tmp_path):
    done, logs = local("--", program=DIES_ONCE.format(folder=tmp_path))
    assert done.returncode == 0, done.stderr
    assert [len(log) for log in logs] == [2, 2]
    assert "status 134; starting all again (1 of 3)" in done.stderr


@pytest.mark.parametrize(
    ("program", "status", "starts"),
    [
        # Not for ever.
        ("[[ $id == 1 ]] || exec sleep 600; exit 134", 134, 3),
        # What a person must mend is not repeated, whoever ends first: the process that
        # is lost first is ended by the mistake of the other one.
        ("exit 2", 2, 1),
        ("[[ $id == 1 ]] || { sleep 0.3; exit 2; }; exit 134", 2, 1),
    ],
)
def test_when_it_does_not_start_again(local, program, status, starts):
    done, logs = local("--restarts=2", "--", program=program)
    assert done.returncode == status
    assert [len(log) for log in logs] == [starts] * 2


def test_sigterm_reaches_all_and_is_waited_for(launch, tmp_path):
    program = (
        f"trap 'touch {tmp_path}/saved.$id; exit 143' TERM; echo ready; "
        "while true; do sleep 0.05; done"
    )
    launch.stand_in(tmp_path, "python", PYTHON.format(folder=tmp_path, program=program))
    path = f"PATH={tmp_path}:/usr/bin:/bin"
    program = ["env", path, str(launch.folder / "local.sh"), "--"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    assert sorted(path.name for path in tmp_path.glob("saved.*")) == [
        "saved.0",
        "saved.1",
    ]


@pytest.mark.long
def test_two_real_processes_of_which_one_is_killed(launch, tmp_path, xla_flags):
    """Real training on 2 x 2 virtual devices; one dies after the first epoch."""
    marker = tmp_path / "killed"
    launch.stand_in(
        tmp_path,
        "python",
        # Process 1 kills itself once, as soon as there is a checkpoint.
        f"[[ $* != *--process_id=1* || -e {marker} ]] || while kill -0 $$; do\n"
        f"  if compgen -G '{tmp_path}/run/checkpoints/22/state/*'; then\n"
        f"    touch {marker}; kill -KILL $$; fi\n"
        "  sleep 0.1; done >/dev/null 2>&1 &\n"
        'exec "$REAL_PYTHON" "$@"',
    )
    done = launch.call(
        "local.sh",
        "--",
        "--config=configs/digits_resnet.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.schedule.epochs=3.0",
        "--config.checkpoint.every_epochs=1.0",
        "--config.data.data_dir=" + str(tmp_path / "data"),
        folder=tmp_path,
        REAL_PYTHON=sys.executable,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=xla_flags(2),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert marker.exists()
    assert "starting all again (1 of 3)" in done.stderr
    assert "resuming from the checkpoint of step" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["steps"] == 66
    assert result["device"] == "4 x cpu (2 process(es))"
