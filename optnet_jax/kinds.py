"""What a field may hold, read from its annotation: its kind, its range, its choices.

``Annotated[int, Range(least=1)]`` is a whole number of at least 1,
``Literal["last", "best"]`` one of two words, ``tuple[float, ...]`` any number of
numbers. :func:`convert` is the only reader of these annotations.
"""

import collections
import dataclasses
import functools
import inspect
import math
import numbers
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from optnet_jax.errors import LONGEST, InputError, did_you_mean, one_line, shown

INT32 = 2**31 - 1
"""The largest step that the state of a run counts to."""


class WrongValueError(ValueError):
    """A value does not fit; the message is what follows its name in a sentence."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers between bounds, of which ``least`` and ``most`` are in it.

    A message says what a number means, if that is given.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    meaning: str = ""

    def check(self, value: Any) -> Any:
        """Return the value if it lies between the bounds, in single precision, too."""
        bounds = [
            (f"{words} {bound}", within(value, bound))
            for words, bound, within in (
                ("at least", self.least, operator.ge),
                ("above", self.above, operator.gt),
                ("at most", self.most, operator.le),
                ("below", self.below, operator.lt),
            )
            if bound is not None
        ]
        if not all(holds for _, holds in bounds):
            meaning = f" ({self.meaning})" if self.meaning else ""
            said = " and ".join(words for words, _ in bounds)
            raise WrongValueError(f"must be {said}{meaning}")
        if isinstance(value, float):
            single = float(in_single_precision(value))
            lost = value and (not single or single in (self.above, self.below))
            if lost or not math.isfinite(single):
                raise WrongValueError(
                    f"is {single:g} in single precision, in which networks compute"
                )
        return value


def in_single_precision(value: Any) -> Any:
    """Return numbers as single precision rounds them: one below 1e-38 is 0.

    >>> in_single_precision(1e40), in_single_precision(1e-40)
    (np.float32(inf), np.float32(0.0))
    """
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(value)
    return single * (np.abs(value) >= 1e-38)


def check_byte_order(array: Any, name: str) -> None:
    """Refuse a NumPy array of another machine's byte order, which JAX does not take.

    Raises:
        InputError: naming what turns it.
    """
    if isinstance(array, np.ndarray) and not array.dtype.isnative:
        raise InputError(
            f"{name} has another machine's byte order, {array.dtype.str}: "
            "array.astype(array.dtype.newbyteorder('=')) turns it"
        )


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The names of a table that is filled at run time; others are ``Literal``."""

    names: tuple[Any, ...] | Callable[[], tuple[Any, ...]]

    def check(self, value: Any) -> Any:
        """Return the name if it is in the table."""
        return _choice(value, self.names() if callable(self.names) else self.names)


@dataclasses.dataclass(frozen=True)
class Items:
    """How many values a tuple has, and whether each may come once only."""

    least: int = 0
    distinct: bool = False

    def check(self, value: tuple) -> tuple:
        """Return the tuple if it is long enough and has nothing twice."""
        if len(value) < self.least:
            raise WrongValueError(f"must have at least {self.least}")
        twice = [item for item, n in collections.Counter(value).items() if n > 1]
        if self.distinct and twice:
            raise WrongValueError(f"must name each once: {twice[0]!r} comes twice")
        return value


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """A path on this machine; ``~`` is expanded, and empty means none."""

    def check(self, value: str) -> str:
        """Return the path with its ``~`` expanded."""
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", value):
            raise WrongValueError(
                "must be a path on this machine: mount the bucket, or copy it"
            )
        if any(len(part.encode()) > 255 for part in value.split("/")):
            raise WrongValueError("has a name of more than 255 bytes: no file can")
        if value.lower() in ("none", "null"):
            raise WrongValueError("is no path: leave it empty where none is meant")
        try:
            return str(Path(value).expanduser()) if value.startswith("~") else value
        except RuntimeError as error:
            raise WrongValueError("names a home folder that is not there") from error


@dataclasses.dataclass(frozen=True)
class Rule:
    """Any other rule: what a value "must be", and whether one is so."""

    says: str
    holds: Callable[[Any], Any]

    def check(self, value: Any) -> Any:
        """Return the value if it is so."""
        if self.holds(value):
            return value
        raise WrongValueError(f"must be {self.says}")


def pattern(expression: str, says: str) -> Rule:
    """Return the rule of texts that match a regular expression as a whole."""
    return Rule(says, re.compile(expression, re.ASCII | re.DOTALL).fullmatch)


LocalPath = Annotated[str, OnDisk()]


def local_path(value: str | os.PathLike, name: str) -> Path:
    """Return a path that a person gave, as :class:`OnDisk` does, and not empty."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    kind = Annotated[str, pattern(".+", "the path of a file or folder"), OnDisk()]
    return Path(convert(text, kind, name))


def convert(value: Any, kind: Any, name: str) -> Any:
    """Return a value as its kind has it.

    Returns:
        The value; a whole number where a float is wanted becomes one, a list a tuple.

    Raises:
        InputError: naming the field, its value and what it must be.

    >>> convert([1, 2], tuple[float, ...], "rates")
    (1.0, 2.0)
    """
    try:
        return _converted(value, kind)
    except WrongItemError as error:
        raise InputError(f"{name} has {shown(error.item)}: each {error}") from error
    except WrongValueError as error:
        raise InputError(f"{name}={shown(value)} {error}") from error


class WrongItemError(WrongValueError):
    """An item of a tuple does not fit."""

    def __init__(self, item: Any, problem: str):
        super().__init__(problem)
        self.item = item


def _converted(value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        value = _converted(value, arguments[0])
        for rule in arguments[1:]:
            value = rule.check(value)
        return value
    if origin is Literal:
        return _choice(value, arguments)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, arguments)
    if origin is tuple or kind is tuple:
        return _tuple(value, arguments or (Any, ...))
    if kind in _PLAIN:
        for rule in _PLAIN[kind]:
            rule.check(value)
        return None if value is None else kind(value)
    if kind is Any:
        return value
    if origin is not None and isinstance(origin, type):
        kind = origin
    if isinstance(kind, type) and not isinstance(value, kind):
        raise WrongValueError(f"must be a {kind.__name__}")
    return value


def is_plain(kind: Any) -> bool:
    """Say whether a kind is of words, numbers and tuples of them, or has a rule."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return all(hasattr(rule, "check") for rule in arguments[1:])
    if origin in (tuple, typing.Union, types.UnionType):
        return all(one is ... or is_plain(one) for one in arguments)
    return origin is Literal or kind in (tuple, *_PLAIN)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value, numbers.Real) and math.isfinite(float(value))
    except OverflowError:
        return False


_PLAIN: dict[type, tuple[Rule, ...]] = {
    types.NoneType: (Rule("None", lambda value: value is None),),
    bool: (Rule("True or False", lambda value: isinstance(value, bool | np.bool_)),),
    int: (Rule("a whole number", lambda value: _is_number(value, numbers.Integral)),),
    float: (Rule("a finite number", _is_finite),),
    str: (
        Rule("text", lambda value: isinstance(value, str)),
        Rule("text in UTF-8", lambda s: s == s.encode(errors="ignore").decode()),
        Rule("text without a NUL", lambda s: "\0" not in s),
    ),
}


def _choice(value: Any, choices: tuple) -> Any:
    if isinstance(value, str) and value in choices:
        return value
    close = did_you_mean(value, choices)
    raise WrongValueError(f"is unknown: use {' or '.join(map(str, choices))}{close}")


def _one_of(value: Any, kinds: tuple) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _converted(value, kind)
        except WrongItemError:
            raise
        except WrongValueError as error:
            problems.append(str(error))
    # Of the right kind is what more is said of than what it must be.
    for problem in problems:
        if not problem.startswith("must be "):
            raise WrongValueError(problem)
    kinds_said = dict.fromkeys(text.removeprefix("must be ") for text in problems)
    raise WrongValueError(f"must be {' or '.join(kinds_said)}")


def _tuple(value: Any, kinds: tuple) -> tuple:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, tuple | list):
        example = f": ({value!r},) is one" if isinstance(value, str) else ""
        raise WrongValueError(f"must be a tuple{example[: LONGEST + 10]}")
    if kinds[-1] is not ...:
        if len(value) != len(kinds):
            raise WrongValueError(f"must have {len(kinds)} values")
        pairs = zip(value, kinds, strict=True)
    else:
        pairs = ((item, kinds[0]) for item in value)
    converted = []
    for item, kind in pairs:
        try:
            converted.append(_converted(item, kind))
        except WrongValueError as error:
            raise WrongItemError(item, str(error)) from error
    return tuple(converted)


def misfit(function: Any, *arguments: Any, **named: Any) -> str:
    """Say why a function cannot be called so; empty where it can, or does not say.

    >>> misfit(lambda x: x, 1, train=False)
    "it takes (x), got an unexpected keyword argument 'train'"
    """
    try:
        takes = inspect.signature(function)
    except (TypeError, ValueError) as error:
        # A ValueError: a partial of what its function does not take, or one of C.
        wrong = isinstance(error, TypeError) or isinstance(function, functools.partial)
        return one_line(error) if wrong else ""
    try:
        takes.bind(*arguments, **named)
    except TypeError as error:
        return f"it takes {takes}, {error}"
    return ""


def as_mapping(value: Any) -> Mapping[str, Any] | None:
    """Return a dict, or an ml_collections.ConfigDict as one; None of another value."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "to_dict") and hasattr(value, "items"):
        return dict(value.items())
    return None
