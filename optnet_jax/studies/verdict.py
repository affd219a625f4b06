"""Supported, not supported or reversed: a verdict from the numbers alone.

The paper's word: "a network with fewer layers to reach the same approximation accuracy"
is the better one, and methods that converge faster should give it. So for each method
two questions are asked, both against gradient descent, both paired by seed and decided
by the sign-flip test at 5 %.

* Is the *method* faster: does it need fewer iterations with the true W?
* Does its *trained network* need fewer layers?

Layers are counted in :func:`doublings`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optnet_jax.studies import comparison
from optnet_jax.studies.cells import Row
from optnet_jax.studies.markdown import number, select

FEWER, MORE, SAME = "fewer", "more", "no more than chance"


def layers_needed(errors: Mapping[int, float], tolerance: float) -> int | None:
    """Return the smallest depth whose error is at most the tolerance, or None.

    >>> layers_needed({1: 0.5, 2: 0.05, 4: 0.2}, 0.1)
    2
    """
    reached = [depth for depth, error in errors.items() if error <= tolerance]
    return min(reached, default=None)


def doublings(errors: Mapping[int, float], tolerances: Sequence[float]) -> float:
    """Return log2 of the layers needed, the mean over the tolerances.

    Args:
        errors: depth -> relative test error, of a seed.
        tolerances: where no depth that was tried reaches one, twice the deepest counts.
    """
    beyond = 2 * max(errors)
    needed = [layers_needed(errors, tolerance) or beyond for tolerance in tolerances]
    return sum(map(math.log2, needed)) / len(needed)


def mean_layers(layers: Sequence[float | None], deepest: int) -> str:
    """Return the geometric mean over the seeds that reach something, and how many do.

    >>> mean_layers([2, 8], 9), mean_layers([2, 8, None], 9), mean_layers([None], 9)
    ('4.0', '4.0 (2 seeds)', '> 9')

    Args:
        layers: by seed; None where it is not reached.
        deepest: the layers that were tried.
    """
    reached = [n for n in layers if n is not None]
    if not reached:
        return f"> {deepest}"
    mean = f"{np.exp(np.mean(np.log(reached))):.1f}"
    return mean if len(reached) == len(layers) else f"{mean} ({len(reached)} seeds)"


def direction(verdict: str) -> str:
    """Say which way a comparison of layers or iterations falls."""
    return {"better": FEWER, "worse": MORE}.get(verdict, verdict)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, by Holm's step-down method.

    The chance that any of them is below 5 % where nothing differs is then 5 % at most,
    however they depend on each other.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Args:
        p_values: of all tests that are reported together.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected, least = [1.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = least
    return corrected


def together(found: Sequence[tuple[Row, Row]]) -> list[Row]:
    """Judge all comparisons of a table or page, corrected for their number.

    Args:
        found: what each is of, and what :func:`comparison.compare` returned.

    Returns:
        The fields of both, ``p_corrected`` and the ``verdict``.
    """
    p_values = [each["p_value"] for _, each in found]
    corrected, judged = holm(p_values), []
    for i, (place, each) in enumerate(found):
        # What so many seeds could have shown beside the others as they are.
        best = holm([*p_values[:i], each["least_p_value"], *p_values[i + 1 :]])[i]
        verdict = comparison.verdict(each, corrected[i], best, len(found))
        made = {"p_corrected": corrected[i], "verdict": verdict}
        judged.append({**place, **each, **made})
    return judged


def against(baseline: Row, values: Sequence[tuple[Row, Sequence[float]]]) -> list[Row]:
    """Compare each with what differs from it in the fields of the baseline alone.

    Args:
        baseline: such as ``{"method": "gd"}``.
        values: what tells one from the others, such as a method and a depth, and its
            numbers by seed.

    Returns:
        As :func:`together`; what is a baseline, or has none, is left out.
    """
    pairs = [
        (place, comparison.compare(dict(enumerate(own)), dict(enumerate(theirs))))
        for place, own in values
        if place != place | baseline
        for other, theirs in values
        if other == place | baseline
    ]
    return together([(place, found) for place, found in pairs if found])


def directions(compared: Sequence[Row], by: str, **place: Any) -> dict[str, str]:
    """Return which way comparisons of layers fall, by what a field of them names."""
    return {r[by]: direction(r["verdict"]) for r in select(compared, **place)}


TESTED = "the sign-flip test over the seeds (exact up to 16), Holm's correction"


def shown(compared: Sequence[Row], show: Callable[[Row], str], **place: Any) -> str:
    """Return what is shown of the comparison of a place; nothing of a baseline's."""
    return "".join(map(show, select(compared, **place)))


def mark(compared: Sequence[Row], **place: Any) -> str:
    """Return an arrow for what is lower or higher than its baseline, or nothing."""
    arrows = {"better": " ↓", "worse": " ↑"}
    return shown(compared, lambda row: arrows.get(row["verdict"], ""), **place)


def p_value(compared: Sequence[Row], **place: Any) -> str:
    """Return the corrected p-value of a comparison, or nothing."""
    return shown(compared, lambda row: number(row["p_corrected"]), **place)


def difference(compared: Sequence[Row], form: str, **place: Any) -> str:
    """Return the mean difference from the baseline, and its corrected p-value."""
    text = f"{{mean:{form}}} (p = {{p_corrected:.2g}})"
    return shown(compared, lambda row: text.format(**row), **place)


def judge(
    methods: Mapping[str, str],
    networks: Mapping[str, str],
    given: str = "the true W",
) -> str:
    """Return the verdict on "faster methods need fewer layers".

    Args:
        methods: method -> :func:`direction` of its iterations with the true W.
        networks: method -> direction of the layers that its trained network needs.
        given: with what its iterations were counted.

    Returns:
        A sentence that begins with the verdict: supported, reversed, not supported, or
        cannot tell with so few seeds.
    """
    if not methods:
        return "cannot tell: no method is compared with gradient descent"
    for found in (*methods.values(), *networks.values()):
        if found not in (FEWER, MORE, SAME):
            return found  # it says how many seeds are needed
    faster = [label for label, found in methods.items() if found == FEWER]
    if not faster:
        return "not supported: no method is faster than gradient descent here"
    groups = {
        kind: [label for label in faster if networks[label] == kind]
        for kind in (FEWER, MORE, SAME)
    }
    reasons = [
        f"{_listed(labels)} {'need' if labels[1:] else 'needs'} {kind} layers than GD"
        for kind, labels in groups.items()
        if labels and kind != SAME
    ]
    if groups[SAME]:
        reasons.append(f"for {_listed(groups[SAME])} no difference is found")
    half = len(faster) / 2
    if len(groups[FEWER]) >= half and not groups[MORE]:
        head = "supported"
    elif len(groups[MORE]) >= half and not groups[FEWER]:
        head = "reversed"
    else:
        head = "not supported"
    return (
        f"{head}: {len(faster)} method(s) need fewer iterations than GD with {given}; "
        f"once trained, {'; '.join(reasons)}"
    )


def _listed(labels: Sequence[str]) -> str:
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if labels[1:] else labels)
