"""Plots of one run, drawn from its workdir: learning curve, learned coefficients."""

from pathlib import Path

from optnet_jax.errors import InputError
from optnet_jax.runs import picture
from optnet_jax.studies.panels import panels
from optnet_jax.studies.report import runs
from optnet_jax.training.workdir import check_kinds


def draw(workdir: Path) -> list[Path]:
    """Draw all plots of a run into ``<workdir>/plots``.

    Returns:
        The files, ``learning_curve.png`` and, where the network learns coefficients,
        ``coefficients.png``; without any, that of an earlier run is deleted.

    Raises:
        InputError: if there is no run, or it is damaged.
    """
    check_kinds(workdir)
    plots = workdir / "plots"
    drawn = [draw_learning_curve(workdir, plots / "learning_curve.png")]
    learned = plots / "coefficients.png"
    if runs.read(workdir).coefficients:
        drawn.append(draw_coefficients(workdir, learned))
    else:
        learned.unlink(missing_ok=True)  # an earlier run's, which was started afresh
    return drawn


def draw_learning_curve(workdir: Path, file: Path) -> Path:
    """Draw loss and top-1 error over the epochs, training and test."""
    run = runs.read(workdir)
    figure, ((loss, error),) = panels(1, 2, 4.5, 3.5)
    for axis, metric, label in (
        (loss, "loss", "cross-entropy"),
        (error, "top1_error", "top-1 error (%)"),
    ):
        for split in ("train", "test"):
            axis.plot(*run.series(f"{split}/{metric}"), label=split)
        axis.set(xlabel="epoch", ylabel=label)
        axis.legend()
    loss.set_yscale("log")
    figure.suptitle(run.name, parse_math=False)
    return picture.save(figure, file, 120)


def draw_coefficients(workdir: Path, file: Path) -> Path:
    """Draw each group of learned coefficients over the epochs, one line each.

    The heavy line is the mean of the group: whether a network drifts away from the
    coefficients that it started with (1 for α) is seen from it.

    Raises:
        InputError: if the run has learned none.
    """
    run = runs.read(workdir)
    if not run.coefficients:
        raise InputError(
            f"{workdir} has no learned coefficients: set --config.model.learned"
        )
    number = len(run.coefficients)
    figure, (axes,) = panels(1, number, max(5 / number, 3.2), 3.5, sharey=True)
    for axis, (name, values) in zip(axes, run.coefficients.items(), strict=True):
        axis.plot(run.recorded, values, color="tab:blue", alpha=0.35, linewidth=0.8)
        axis.plot(run.recorded, values.mean(1), color="black", linewidth=2)
        axis.set(xlabel="epoch", title=f"{name} ({values.shape[1]})")
        axis.title.set_parse_math(False)
    axes[0].set_ylabel("coefficient")
    figure.suptitle(run.name, parse_math=False)
    return picture.save(figure, file, 120)
