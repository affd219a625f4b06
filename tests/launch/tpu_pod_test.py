import fcntl
import functools
import shlex
import signal
import subprocess

import pytest

ENVIRONMENT = {
    "TPU_NAME": "agd",
    "TPU_ZONE": "us-central2-b",
    "TPU_SHARE": "10.0.0.2:/s",
}
TPU = "gcloud compute tpus tpu-vm"
TAR = "/tmp/optnet.XXXXXX/optnet.tar.gz"
CREATE = (
    f"{TPU} create agd --zone=us-central2-b --accelerator-type=v4-32 "
    "--version=tpu-ubuntu2204-base"
)
DELETE = f"{TPU} delete agd --zone=us-central2-b --quiet"
ON_ALL = f"{TPU} ssh agd --zone=us-central2-b --worker=all"
RUN = (
    "cd optnet && nohup launch/keep_running.sh --lock=run.lock -- .venv/bin/python "
    "-m optnet_jax.main --distributed {flags} >>run.log 2>&1 </dev/null &"
)
STOP = "cd optnet && { flock -n run.lock echo not running || kill $(cat run.lock); }"


@pytest.fixture
def dry_run(launch):
    def call(*arguments, **environment):
        given = ENVIRONMENT | environment
        done = launch.call("tpu_pod.sh", "--dry-run", *arguments, **given)
        assert done.returncode == 0, done.stderr
        first, *lines = done.stdout.splitlines()
        assert first.startswith("# once: gcloud auth login; gcloud config set project")
        return [shlex.split(line) for line in lines]

    return call


def setup_commands(launch):
    root = f"{launch.folder}/.."
    return [
        f"git -C {root} archive --prefix=optnet/ -o {TAR} HEAD".split(),
        f"{TPU} scp {TAR} agd: --zone=us-central2-b --worker=all".split(),
        [
            *ON_ALL.split(),
            "--command=tar -xzf optnet.tar.gz && "
            "optnet/launch/tpu_worker.sh 10.0.0.2:/s",
        ],
    ]


def test_create(dry_run):
    assert dry_run("create") == [CREATE.split()]
    options = {"TPU_TYPE": "v5p-64", "TPU_VERSION": "v2-alpha-tpuv5"}
    (command,) = dry_run("create", TPU_OPTIONS="--spot --network=n", **options)
    assert command[-4:] == [
        "--accelerator-type=v5p-64",
        "--version=v2-alpha-tpuv5",
        "--spot",
        "--network=n",
    ]


def test_setup(dry_run, launch):
    assert dry_run("setup") == setup_commands(launch)


def test_run_hands_flags_on_through_two_shells(dry_run):
    (command,) = dry_run("run", "--config=configs/imagenet_agd.py", "--workdir=/a b")
    assert command[:-1] == ON_ALL.split()
    remote = command[-1].removeprefix("--command=")
    flags = r"--config=configs/imagenet_agd.py --workdir=/a\ b"
    assert remote == RUN.format(flags=flags)
    assert "--workdir=/a b" in shlex.split(remote)


def test_logs_stop_delete(dry_run):
    (logs,) = dry_run("logs")
    assert logs[-2:] == ["--worker=0", "--command=tail -n 100 -f optnet/run.log"]
    (stop,) = dry_run("stop")
    assert stop == [*ON_ALL.split(), f"--command={STOP}"]
    assert dry_run("delete") == [DELETE.split()]


def test_resume_makes_everything_anew(dry_run, launch):
    run = [*ON_ALL.split(), "--command=" + RUN.format(flags="--config=x")]
    assert dry_run("resume", "--config=x") == [
        DELETE.split(),
        CREATE.split(),
        *setup_commands(launch),
        run,
    ]


@pytest.fixture
def cloud(tmp_path, launch):
    """A gcloud that writes down how it was called and knows one TPU VM's state."""
    log = tmp_path / "log"

    def call(*arguments, state="READY", failing="none"):
        launch.stand_in(
            tmp_path,
            "gcloud",
            f'echo "$4" >>{log}\n'
            f"[[ $4 != describe ]] || echo '{state}'\n"
            f"[[ $4 != {failing} ]]",
        )
        launch.stand_in(tmp_path, "git", "true")
        done = launch.call("tpu_pod.sh", *arguments, folder=tmp_path, **ENVIRONMENT)
        return done, log.read_text("utf-8").split()

    return call


ANEW = "describe delete create scp ssh ssh"


@pytest.mark.parametrize(
    ("state", "failing", "calls"),
    [
        ("READY", "none", "describe ssh"),
        ("PREEMPTED", "none", ANEW),
        ("NOT_FOUND: no such TPU", "delete", ANEW),  # nothing is left to delete
        # It may be there: nobody's run is deleted.
        ("CREATING", "none", "describe"),
        ("the connection was reset", "describe", "describe"),
        # Nothing is started where the set-up failed.
        ("PREEMPTED", "create", "describe delete create"),
        ("PREEMPTED", "scp", "describe delete create scp"),
    ],
)
def test_resume_does_what_the_state_needs(cloud, state, failing, calls):
    done, called = cloud("resume", "--config=x", state=state, failing=failing)
    assert called == calls.split()
    ends = failing in ("create", "scp") or calls == "describe"
    assert (done.returncode != 0) == ends, done.stderr


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_says_which_variable_is_missing(launch, name):
    given = ENVIRONMENT | {name: ""}
    done = launch.call("tpu_pod.sh", "--dry-run", "create", **given)
    assert done.returncode != 0
    assert f"{name}: is not set" in done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("restart", "unknown command restart"),
        *((name, f"{name} without FLAGS") for name in ("run", "resume", "data")),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(launch, command, message):
    done = launch.call("tpu_pod.sh", command, **ENVIRONMENT)
    assert done.returncode == 2
    assert message in done.stderr


def test_data_are_prepared_on_one_worker(dry_run):
    (command,) = dry_run("data", "--dataset=cifar10", "--data_dir=/mnt/share/t f")
    assert command[-2:] == [
        "--worker=0",
        "--command=cd optnet && .venv/bin/python -m optnet_jax.data.prepare "
        r"--dataset=cifar10 --data_dir=/mnt/share/t\ f",
    ]


def test_what_is_in_a_variable_is_no_command_on_the_workers(dry_run):
    share = "10.0.0.2:/s; touch x"
    remote = dry_run("setup", TPU_SHARE=share)[-1][-1]
    assert shlex.split(remote)[-1] == share


def test_the_archives_folder_is_new_and_goes_again(launch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    launch.stand_in(tmp_path, "git", f'echo "$*" >>{tmp_path}/log')
    launch.stand_in(tmp_path, "gcloud", "true")
    for _ in range(2):
        done = launch.call(
            "tpu_pod.sh", "setup", folder=tmp_path, TMPDIR=folder, **ENVIRONMENT
        )
        assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "log").read_text("utf-8").splitlines()
    assert str(folder) in first
    assert first != second
    assert not list(folder.iterdir())


def test_stop_kills_no_stranger_that_has_got_the_process_id(tmp_path):
    """A launcher that was killed has left its id in the file, and no lock."""
    (tmp_path / "optnet").mkdir()
    lock = tmp_path / "optnet" / "run.lock"
    with subprocess.Popen(["sleep", "600"]) as stranger:
        lock.write_text(f"{stranger.pid}\n", "utf-8")
        stop = functools.partial(
            subprocess.run, ["bash", "-c", STOP], cwd=tmp_path, capture_output=True
        )
        assert stop().stdout == b"not running\n"
        assert stranger.poll() is None
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert stop().returncode == 0
        assert stranger.wait(60) == -signal.SIGTERM
