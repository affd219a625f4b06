"""The launchers as programs, with other programs' names on the PATH."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "launch"


def call(script, *arguments, folder=None, **environment):
    """Run a launcher; ``folder`` comes first on its PATH."""
    path = os.pathsep.join(
        filter(None, [folder and str(folder), str(Path(sys.executable).parent)])
    )
    return subprocess.run(
        [str(FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PATH": path + os.pathsep + os.environ["PATH"]}
        | {name: str(value) for name, value in environment.items()},
    )


def stand_in(folder, name, program):
    """Put a shell program of this name into the folder."""
    file = folder / name
    file.write_text(f"#!/usr/bin/env bash\n{program}\n", "utf-8")
    file.chmod(0o755)


@pytest.fixture
def launch():
    return types.SimpleNamespace(call=call, stand_in=stand_in, folder=FOLDER)
