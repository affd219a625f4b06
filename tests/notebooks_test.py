"""Every notebook runs from top to bottom, and is committed as it ran."""

import os
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000  # bytes


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_with_its_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # In order from 1: it was run once, as a whole, after the last change.
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell.outputs)
    assert path.stat().st_size < LARGEST


@pytest.mark.filterwarnings(
    # nbclient's and jupyter_client's own, about the event loop of this process.
    "ignore::DeprecationWarning:jupyter_client",
    "ignore::DeprecationWarning:nbclient",
    "ignore:unclosed:ResourceWarning",
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch, xla_flags):
    # A reader's machine has one CPU device.
    monkeypatch.setenv("XLA_FLAGS", xla_flags(1))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shorter = {
        # Prepared once for all tests; a reader's lies beside the run.
        'str(folder / "data")': repr(os.environ["TFDS_DATA_DIR"]),
        "schedule.epochs = 6.0": "schedule.epochs = 1.0",
        "steps = 300": "steps = 20",
        # The other methods are the same cells once more.
        '("gd", "hb", "agd", "agd2")': '("gd",)',
        '("gd", "hb", "agd")': '("gd",)',
        '"depths": (8,)': '"depths": ()',
    }
    notebook = read(path)
    for cell in notebook.cells:
        for printed, run in shorter.items():
            cell.source = cell.source.replace(printed, run)
    place = {"metadata": {"path": str(tmp_path)}}
    # No TCP: two kernels that start at once may be given one port, and one hangs.
    with tempfile.TemporaryDirectory() as sockets:  # whose paths must be short
        manager = {"transport": "ipc", "ip": f"{sockets}/kernel"}
        client = NotebookClient(
            notebook,
            timeout=600,
            resources=place,
            config=Config({"KernelManager": manager}),
        )
        client.execute(env=dict(os.environ))
    assert list(tmp_path.glob("*")) in ([], [tmp_path / "ipython"])
