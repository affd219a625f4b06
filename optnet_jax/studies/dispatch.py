"""From a config to the room that does the work: the entry for programs and notebooks.

Nothing that takes seconds to import is imported before it is needed.
"""

import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optnet_jax.configuration import Block, Config, local_path
from optnet_jax.errors import InputError, shown
from optnet_jax.runs import program

MODES = ("train", "eval", "summary", "predict", "export")


def run(
    config: Config,
    workdir: str,
    mode: str,
    topology: str = "",
    images: Sequence[str] = (),
) -> None:
    """Train, evaluate, summarise or use what a config describes, or run a study.

    Args:
        config: The config; ``config.experiment`` is ``train`` or the name of a study.
        workdir: Directory of the run.
        mode: One of ``MODES``.
        topology: Slice of a TPU pod that a summary is for; see :mod:`..inspect.tpu`.
        images: Files and folders of them, to predict.

    Raises:
        InputError: if there is no such experiment, or from the work itself.
    """
    workdir = str(local_path(workdir, "workdir"))
    if mode == "summary":
        # On standard error: the table may be redirected.
        program.tell(
            "tracing the network; one of hundreds of layers takes minutes", sys.stderr
        )
        from optnet_jax.training import summary

        summary.show(config, Path(workdir), topology)
        return
    if topology:
        raise InputError(
            f"nothing is run on {shown(topology)}, it is only compiled for: add "
            "--mode=summary, or leave out --topology"
        )
    if images and mode != "predict":
        raise InputError("--images is for --mode=predict: add it, or leave them out")
    fields = config.as_mapping() if isinstance(config, Block) else config
    experiment = fields.get("experiment", "train")
    # An array, from Python, would be compared entry by entry.
    if not isinstance(experiment, str) or experiment != "train":
        _run_study(experiment, config, workdir, mode)
    elif mode == "predict":
        from optnet_jax.inference import report

        report.predict_files(Path(workdir), images)
    elif mode == "export":
        from optnet_jax.inference import export

        export.export_run(Path(workdir))
    elif mode == "eval":
        from optnet_jax.training import evaluate

        evaluate.evaluate_checkpoint(config, workdir)
    else:
        from optnet_jax.training import loop

        loop.train(config, workdir)
        _draw(workdir)


def study(name: Any) -> Any:
    """Return the ``STUDY`` of the module of that name in ``studies/``; None without."""
    if not isinstance(name, str) or not name.isidentifier():
        return None
    module = f"optnet_jax.studies.{name}"
    if importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), "STUDY", None)


def _run_study(name: Any, config: Config, workdir: str, mode: str) -> None:
    from optnet_jax import studies
    from optnet_jax.runs import distributed

    found = study(name)
    if found is None:
        modules = (module.name for module in pkgutil.iter_modules(studies.__path__))
        raise InputError(
            f"config.experiment={shown(name)} is unknown: use train, "
            + ", ".join(module for module in modules if study(module))
        )
    if mode != "train":
        raise InputError(
            f"{name} is a study, which has no checkpoint to evaluate: leave out "
            f"--mode={mode} to run it, or to see its report again"
        )
    if distributed.group() is not None:
        raise InputError(
            f"the study {name} runs in one process: start it without --distributed "
            "or --coordinator_address"
        )
    found.run(config, workdir)


def _draw(workdir: str) -> None:
    import jax

    from optnet_jax.studies import figures

    if jax.process_index() == 0:
        for path in figures.draw(Path(workdir)):
            print(f"drawn: {path}", flush=True)
