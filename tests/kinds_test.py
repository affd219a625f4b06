import decimal
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.kinds import (
    Items,
    LocalPath,
    Range,
    convert,
    local_path,
    pattern,
)

POSITIVE = Annotated[float, Range(above=0)]
IN_SINGLE = "in single precision, in which networks compute"
TWICE = Annotated[tuple[int, ...], Items(least=1, distinct=True)]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, int, 3),
        (np.int64(3), int, 3),
        (3, float, 3.0),
        (np.float32(0.5), float, 0.5),
        (np.bool_(True), bool, True),
        ("ß", str, "ß"),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (("a", 2), tuple[str, int], ("a", 2)),
        (None, int | None, None),
        (3, int | None, 3),
        ("last", Literal["last", "best"], "last"),
        (print, Any, print),
        (1e-38, POSITIVE, 1e-38),
        (0.0, Annotated[float, Range(least=0)], 0.0),
        (2, Annotated[int, Range(least=2, most=2)], 2),
        ("007", Annotated[str, pattern("[0-9]+", "digits")], "007"),
    ],
)
def test_a_value_of_its_kind_is_taken(value, kind, expected):
    converted = convert(value, kind, "field")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (3.0, int, "field=3.0 must be a whole number"),
        (True, int, "field=True must be a whole number"),
        (False, float, "field=False must be a finite number"),
        ("3", float, "field='3' must be a finite number"),
        (float("nan"), float, "field=nan must be a finite number"),
        (10**400, float, f"field={str(10**400)[:80]}… must be a finite number"),
        (decimal.Decimal(1), float, "field=Decimal('1') must be a finite number"),
        (1, bool, "field=1 must be True or False"),
        ("no", bool, "field='no' must be True or False"),
        (b"x", str, "field=b'x' must be text"),
        ("\udcff", str, "field='\\udcff' must be text in UTF-8"),
        ("a\0b", str, "field='a\\x00b' must be text without a NUL"),
        ("bias", tuple[str, ...], "field='bias' must be a tuple: ('bias',) is one"),
        ((1, "a"), tuple[int, ...], "field has 'a': each must be a whole number"),
        ((1,), tuple[int, int], "field=(1,) must have 2 values"),
        ("x", int | None, "field='x' must be a whole number or None"),
        ((1,), tuple[int, int] | None, "field=(1,) must have 2 values"),
        (
            "lst",
            Literal["last", "best"],
            "field='lst' is unknown: use last or best (did you mean 'last'?)",
        ),
        (-1, Annotated[int, Range(least=0)], "field=-1 must be at least 0"),
        (
            1.0,
            Annotated[float, Range(above=0, below=1, meaning="a share")],
            "field=1.0 must be above 0 and below 1 (a share)",
        ),
        (1e40, POSITIVE, f"field=1e+40 is inf {IN_SINGLE}"),
        (1e-50, POSITIVE, f"field=1e-50 is 0 {IN_SINGLE}"),
        (1e-50, Annotated[float, Range(least=0)], f"field=1e-50 is 0 {IN_SINGLE}"),
        (
            1 - 1e-12,
            Annotated[float, Range(least=0, below=1)],
            f"field=0.999999999999 is 1 {IN_SINGLE}",
        ),
        ((1, 1), TWICE, "field=(1, 1) must name each once: 1 comes twice"),
        ((), TWICE, "field=() must have at least 1"),
        ("²", Annotated[str, pattern("[0-9]+", "digits")], "field='²' must be digits"),
        (
            "s3://a/b",
            LocalPath,
            "field='s3://a/b' must be a path on this machine: "
            "mount the bucket, or copy it",
        ),
        (
            "None",
            LocalPath,
            "field='None' is no path: leave it empty where none is meant",
        ),
    ],
)
def test_what_is_not_is_one_line(value, kind, message):
    with pytest.raises(InputError) as caught:
        convert(value, kind, "field")
    assert str(caught.value) == message


def test_a_path_has_its_home_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert convert("~/sets", LocalPath, "data_dir") == "/home/me/sets"
    assert convert("", LocalPath, "data_dir") == ""
    assert str(local_path("~", "workdir")) == "/home/me"
    for bad in ("", "a/" + "ß" * 128, "gs://bucket/x", "\udcff", 3, b"x"):
        with pytest.raises(InputError, match="workdir="):
            local_path(bad, "workdir")
    with pytest.raises(InputError, match="a home folder that is not there"):
        local_path("~nobody_of_that_name/x", "workdir")
