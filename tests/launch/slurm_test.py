import shlex

import pytest

# Writes down how it was called.
RECORD = 'echo "{name} $*" >>{log}'


@pytest.fixture
def cluster(tmp_path, launch):
    """A Slurm whose commands only write down how they were called."""
    log = tmp_path / "log"

    def call(*arguments, srun_status=0, **environment):
        for name in ("sbatch", "scontrol"):
            launch.stand_in(tmp_path, name, RECORD.format(name=name, log=log))
        srun = RECORD.format(name="srun", log=log) + f"\nexit {srun_status}"
        launch.stand_in(tmp_path, "srun", srun)
        done = launch.call("slurm.sh", *arguments, folder=tmp_path, **environment)
        return done, log.read_text("utf-8").splitlines() if log.exists() else []

    return call


SUBMISSION = (
    "sbatch --job-name=optnet_jax --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 "
    "--requeue --open-mode=append --signal=TERM@120 --partition=gpu --time=12:00:00 "
    "{script} --in-job --restarts=100 -- --config=configs/imagenet_agd.py --workdir=/w"
)
OPTIONS = ("--nodes=4", "--gpus=8", "--partition=gpu", "--time=12:00:00")
FLAGS = ("--config=configs/imagenet_agd.py", "--workdir=/w")
STEP = (
    "srun --kill-on-bad-exit=0 --wait=30 python -m optnet_jax.main --distributed "
    "--config=configs/imagenet_agd.py --workdir=/w"
)


def test_dry_run_prints_the_submission_and_the_step(cluster, launch):
    done, called = cluster(*OPTIONS, "--dry-run", "--", *FLAGS)
    assert done.returncode == 0, done.stderr
    submission, step = (shlex.split(line) for line in done.stdout.splitlines())
    script = launch.folder / "slurm.sh"
    assert submission == SUBMISSION.format(script=script).split()
    assert step == STEP.split()
    assert not called


def test_submits_itself(cluster, launch):
    done, called = cluster(*OPTIONS, "--", *FLAGS)
    assert done.returncode == 0, done.stderr
    assert called == [SUBMISSION.format(script=launch.folder / "slurm.sh")]


@pytest.mark.parametrize(
    ("status", "count", "ends"),
    [
        *((0, 0, True), (2, 0, True)),  # finished, or a mistake
        *((1, 0, False), (134, 0, False), (137, 0, False), (143, 2, False)),
        (134, 3, True),  # not for ever
    ],
)
def test_in_the_job_it_ends_or_goes_back_to_the_queue(cluster, status, count, ends):
    more = {"srun_status": status, "SLURM_JOB_ID": 7, "SLURM_RESTART_COUNT": count}
    done, called = cluster("--in-job", "--restarts=3", "--", *FLAGS, **more)
    assert done.returncode == (status if ends else 0)
    assert called == [STEP, *(() if ends else ("scontrol requeue 7",))]
