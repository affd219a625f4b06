"""Whatever a workdir holds, each use of it ends well or in one line.

A finished run and one that was stopped half-way are made once and copied for each case:
one file, one kind of damage, one use. Everything is compiled once.
"""

import json
import os
import random
import shutil
import signal

import pytest

from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.runs import interruption, program
from optnet_jax.studies import figures
from optnet_jax.studies.report import __main__ as report
from optnet_jax.training import evaluate, experiment, loop, run
from optnet_jax.training import workdir as workdir_lib
from optnet_jax.training.run import Compiled

FILES = (
    *workdir_lib.FILES,
    "events.out.tfevents.*",
    "plots/learning_curve.png",
    "checkpoints/NEWEST/_CHECKPOINT_METADATA",
    "checkpoints/NEWEST/meta/metadata",
    "checkpoints/NEWEST/state/_METADATA",
    "checkpoints/NEWEST/state/manifest.ocdbt",
    "checkpoints/NEWEST/state/d/*",
)
FOLDERS = (
    "plots",
    "checkpoints",
    "checkpoints/NEWEST",
    "checkpoints/NEWEST/state",
    "checkpoints/NEXT.tmp",
    "damaged_checkpoints",
)
MARKUP = "<b>no number</b>"
BLOCKS = ("config", "data", "model", "schedule", "final", "best", "epoch", "origin")
SECONDS = 20
SAMPLE = 40


class Hung(BaseException):
    """A use that does not come back; nothing on the way may catch it."""


def other_kind(value):
    """Every leaf of a JSON value as another kind."""
    if isinstance(value, dict):
        return {name: other_kind(part) for name, part in value.items()}
    if isinstance(value, list):
        return {str(index): other_kind(part) for index, part in enumerate(value)}
    return f"{MARKUP}\n" if isinstance(value, int | float) else [3]


def of_lines(content, change):
    """Change every JSON value of a file: one, or one a line."""
    try:
        return json.dumps(change(json.loads(content))).encode()
    except ValueError:
        lines = [json.dumps(change(json.loads(n))) for n in content.splitlines()]
        return "".join(f"{line}\n" for line in lines).encode()


def inside(change, otherwise):
    """Change the JSON in a file; ``otherwise`` what has another form."""

    def damaged(content):
        try:
            return of_lines(content, change)
        except (ValueError, TypeError):
            return otherwise(content)

    return damaged


def flipped(content):
    """Flip some bytes."""
    middle = len(content) // 2
    return content[:middle] + bytes(255 - b for b in content[middle:][:16])


CONTENT = {
    "empty": lambda content: b"",
    "NUL": lambda content: bytes(len(content)),
    "cut": lambda content: content[: len(content) // 2],
    "text": lambda content: b"\xff to be or not to be {\n" * 9,
    "other JSON": lambda content: b"[1, 2]\n",
    "other object": lambda content: b'{"a": 1}\n',
    # A number in place of every block, the same form with other kinds in it, and more
    # than this version knows.
    "flat": inside(lambda value: {**value, **dict.fromkeys(BLOCKS, 3)}, lambda _: b"3"),
    "wrong inside": inside(other_kind, flipped),
    "future": inside(
        lambda value: {**value, "new": {"field": [1, None]}},
        lambda content: content + b"\x07 and more",
    ),
}
KINDS = ("missing", "folder", "fifo", "link", "dangling")


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def damage(path, how, outside):
    """Damage what is at a path; a link leads to what was there, ``outside``."""
    content = path.read_bytes() if path.is_file() else b'{"a": 1}'
    path.parent.mkdir(exist_ok=True)
    if how == "link":
        if path.exists():
            path.rename(outside / "target")
        else:
            (outside / "target" / "precious").mkdir(parents=True)
            (outside / "target" / "precious" / "file").write_bytes(content)
        path.symlink_to(outside / "target")
        return
    if how == "future" and path.is_dir():
        (path / "new").write_bytes(content)
        return
    remove(path)
    if how == "folder":
        (path / "12").mkdir(parents=True)
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "dangling":
        path.symlink_to(outside / "nothing")
    elif how != "missing":
        path.write_bytes(CONTENT[how](content))


def content_of(folder):
    """Names and bytes of all that is below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


class Runs:
    """The two runs, and what is done with copies of them."""

    def __init__(self, small, folder, monkeypatch):
        self.folder = folder
        self.config = small.small_config(**{"schedule.epochs": 3.0})
        built = experiment.build(TrainConfig.of(self.config))
        step, compiled = built.compiled_eval_step(), {}

        def shared(function, name, tell):
            return compiled.setdefault(name, Compiled(function, name, tell))

        of = experiment.Experiment
        monkeypatch.setattr(of, "compiled_eval_step", lambda built: step)
        monkeypatch.setattr(experiment, "build", lambda config: built)
        monkeypatch.setattr(run, "Compiled", shared)
        done, half = folder / "done", folder / "half"
        self.result = loop.train(self.config, done)
        figures.draw(done)
        with monkeypatch.context() as patch:
            patch.setattr(
                interruption.Interruption, "requested", lambda noted, step: step == 8
            )
            with pytest.raises(program.Interrupted):
                loop.train(self.config, half)
        figures.draw(half)

    def train(self, workdir):
        result = loop.train(self.config, workdir)
        # Gone on with, begun anew or read: it is the same run.
        assert result["checksum"] == self.result["checksum"]
        assert result["final"] == self.result["final"]

    def evaluate(self, workdir):
        found = evaluate.evaluate_checkpoint(self.config, workdir)
        assert found["top1_error"] <= 100

    def draw(self, workdir):
        assert all(file.stat().st_size > 1000 for file in figures.draw(workdir))

    def page(self, workdir):
        page = workdir.parent / "page.html"
        report.main([str(workdir), f"--html={page}"])
        assert MARKUP not in page.read_text("utf-8")

    USES = (
        ("done", train),
        ("half", train),
        ("done", evaluate),
        ("half", draw),
        ("done", page),
        ("half", page),
    )

    def fault(self, which, use, name, how):
        """What is wrong with one case; nothing if it ends as it must."""
        place = self.folder / "case"
        workdir, outside = place / "run", place / "outside"
        outside.mkdir(parents=True)
        shutil.copytree(self.folder / which, workdir)
        newest, following = {"done": ("12", "16"), "half": ("8", "12")}[which]
        name = name.replace("NEWEST", newest).replace("NEXT", following)
        path = next(iter(sorted(workdir.glob(name))), workdir / name)
        damage(path, how, outside)
        before = content_of(outside)
        try:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            use(self, workdir)
        except InputError as error:
            if "\n" in str(error) or len(str(error)) > 800:
                return f"no short line: {str(error)[:1000]}"
        except (Exception, Hung) as error:
            return repr(error)[:300]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            after = content_of(outside)
            shutil.rmtree(place)
        return "" if before == after else "the target of the link was changed"


CASES = [
    (which, use, name, how)
    for which, use in Runs.USES
    for name in (*FILES, *FOLDERS)
    for how in (*CONTENT, *KINDS)
]


@pytest.fixture
def runs(small, tmp_path, monkeypatch):
    def hung(number, frame):
        raise Hung

    before = signal.signal(signal.SIGALRM, hung)
    yield Runs(small, tmp_path, monkeypatch)
    signal.signal(signal.SIGALRM, before)


def faults(runs, cases):
    found = {case: runs.fault(*case) for case in cases}
    return [
        f"{use.__name__} {which}, {name} {how}: {fault}"
        for (which, use, name, how), fault in found.items()
        if fault
    ]


def test_a_sample_of_damaged_workdirs_ends_well_or_in_one_line(runs):
    assert not faults(runs, random.Random(0).sample(CASES, SAMPLE))


@pytest.mark.long
def test_every_damaged_workdir_ends_well_or_in_one_line(runs):
    assert len(CASES) > 1000
    assert not faults(runs, CASES)
