"""From a config to the room that does the work: the entry for programs and notebooks.

Nothing that takes seconds to import is imported before it is needed.
"""

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from optnet_jax.configuration import Block, Config, TrainConfig, local_path
from optnet_jax.errors import InputError, shown
from optnet_jax.kinds import OneOf, convert
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
        InputError: if there is no such mode or experiment, or from the work itself.
    """
    convert(mode, Annotated[str, OneOf(MODES)], "mode")
    workdir = str(local_path(workdir, "workdir"))
    if images and mode != "predict":
        raise InputError("--images is for --mode=predict: add it, or leave them out")
    name = experiment(config)
    if topology and (mode != "summary" or name != "train"):
        add = "add --mode=summary, or " if name == "train" else ""
        raise InputError(
            f"nothing is run on {shown(topology)}, a training step is only compiled "
            f"for it: {add}leave out --topology"
        )
    if name != "train":
        _run_study(name, config, Path(workdir), mode)
    elif mode == "summary":
        # On standard error: the table may be redirected.
        program.tell(
            "tracing the network; one of hundreds of layers takes minutes", sys.stderr
        )
        from optnet_jax.training import summary

        summary.show(config, Path(workdir), topology)
    elif mode == "predict":
        from optnet_jax.inference import report

        which = TrainConfig.of(config).eval.checkpoint
        report.predict_files(Path(workdir), images, which)
    elif mode == "export":
        from optnet_jax.inference import export

        export.export_run(Path(workdir), TrainConfig.of(config).eval.checkpoint)
    elif mode == "eval":
        from optnet_jax.training import evaluate

        evaluate.evaluate_checkpoint(config, workdir)
    else:
        from optnet_jax.training import loop

        loop.train(config, workdir)
        _draw(workdir)


def experiment(config: Config | Block) -> Any:
    """Return what is done with a config: ``train``, or what should name a study."""
    fields = config.as_mapping() if isinstance(config, Block) else config
    name = fields.get("experiment", "train")
    # An array, from Python, would be compared entry by entry.
    return name if isinstance(name, str) else shown(name)


def computes(config: Config, mode: str) -> bool:
    """Say whether this process computes, or leaves devices to those that it starts."""
    found = study(experiment(config))
    return mode != "summary" and not (found and found.starts_programs)


def study(name: Any) -> Any:
    """Return the ``STUDY`` of the module of that name in ``studies/``; None without."""
    if name not in _modules():
        return None
    return getattr(importlib.import_module(f"optnet_jax.studies.{name}"), "STUDY", None)


def _modules() -> list[str]:
    """List them; no path is made of a name, which may be anything."""
    from optnet_jax import studies

    return [module.name for module in pkgutil.iter_modules(studies.__path__)]


def _run_study(name: str, config: Config, workdir: Path, mode: str) -> None:
    from optnet_jax.runs import distributed

    found = study(name)
    if found is None:
        raise InputError(
            f"config.experiment={shown(name)} is unknown: use train, "
            + ", ".join(filter(study, _modules()))
        )
    if mode in ("predict", "export"):
        raise InputError(
            f"{name} is a study, which has no checkpoint: --mode={mode} is for a "
            "training run"
        )
    if distributed.group() is not None:
        raise InputError(
            f"the study {name} runs in one process: start it without --distributed "
            "or --coordinator_address"
        )
    if mode == "summary":
        for line in found.left(config, workdir):
            program.tell(line)
    elif mode == "eval":
        found.report_so_far(config, workdir)
    else:
        found.run(config, workdir)


def _draw(workdir: str) -> None:
    import jax

    from optnet_jax.studies import figures

    if jax.process_index() == 0:
        for path in figures.draw(Path(workdir)):
            print(f"drawn: {path}", flush=True)
