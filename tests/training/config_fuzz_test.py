"""Whatever a config says, from Python or the command line: it is taken, or one line.

Every mutation is drawn from a seed, so a failure names the one that it needs.
"""

import decimal
import random

import numpy as np
import pytest
from absl import flags

from optnet_jax import configuration, main
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError, shown
from optnet_jax.studies import dispatch
from optnet_jax.training import experiment, summary

CONFIGS = (
    "digits_hb",
    "digits_agd",
    "digits_depth",
    "cifar_densenet",
    "imagenet_resnet",
    "table2",
    "convergence",
    "equilibrium",
    "sparse_coding",
    "stability",
    "hypothesis",
    "line",
    "tables",
)
NESTED = [0.5]
for _ in range(2000):
    NESTED = [NESTED]
VALUES = (
    *(-1, 0, 1, 2, 64, 2**31 - 1, 2**31, 2**32, 2**64, -(2**63), 10**400, 10**5000),
    *(-0.0, 0.5, 1.0, 5.5, 1e-320, 1e38, 1e308, float("inf"), float("nan")),
    *(True, False, None, 1j, decimal.Decimal("0.1"), b"bytes", object(), len, int),
    *("", " ", "None", "last", "²", "½", "ß" * 5000, "a\0b", "a\nb", "\udcff", "../.."),
    *("bias", "adam", "float64", "mnist", "resnet20", "gs://a/b", "~nobody/x", "{}"),
    *((), (0.5,), (1.5,), ((0.5,),), (float("nan"),), ("bias", 3), (4, 4), (-1, 2)),
    *([], [0.5], NESTED, {}, {"a": 1}, {1: 2}, {"name": "agd_net"}, {3}, range(3)),
    *(np.float32(0.5), np.int64(3), np.nan, np.ones(2), np.bool_(1), np.zeros(())),
)
TEXTS = (
    *("-1", "0", "1", "64", "2147483648", "18446744073709551616", "1e400", "9" * 5000),
    *("nan", "inf", "-inf", "0.5", "1.", "1e-320", "5.5", "0x10", "1_000", "١", "²"),
    *("", " ", "true", "FALSE", "no", "off", "best", "None", "none", "null", "bias"),
    *("bias,scale", "(0.5,)", "((0.5,),)", "(nan,)", "[]", "{}", "()", "(", "'", "4,4"),
    *("(" * 3000, "\udcff", "a\0b", "a\nb", "é" * 3000, "gs://a", "~/x", "~nobody/x"),
    *("=", "a=b", "--", "lambda: 0", "__import__('os')", "bfloat16", "hb_net", "last"),
)
NEW = ("model.tied", "model.beta2", "model.dtype", "model.num_classes", "model.nmae")
UNKNOWN = ("optimizer.kind", "optimizer.lr", "nonsense", "data", "é", "data..x", "-")


@pytest.fixture
def begin(small):
    """Take a config as far as a run takes it before its first step."""

    def begin(config):
        if study := dispatch.study(dispatch.experiment(config)):
            study.plan(study.config.of(config))
        elif str(config.get("name")) in ("cifar_densenet", "imagenet_resnet"):
            summary.network(config)
        else:
            experiment.build(TrainConfig.of(config))

    return begin


def leaves(tree, path=()):
    """The paths of all fields, blocks included."""
    for name, value in tree.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))


def survives(call, what):
    """Whether a call ends well; anything but an InputError of one line is a fault."""
    try:
        call()
    except InputError as error:
        text = str(error)
        assert text.strip(), what
        assert "\n" not in text, what
        assert len(text) < 1500, what
        return False
    except BaseException as error:
        raise AssertionError(f"{what}: {error!r}"[:600]) from error
    return True


def mutate_in_python(draw, begin):
    name = draw.choice(CONFIGS)
    config = configuration.load(f"configs/{name}.py").to_dict()
    path = draw.choice([*leaves(config), *(tuple(f.split(".")) for f in NEW + UNKNOWN)])
    block = config
    for part in path[:-1]:
        block = block.setdefault(part, {})
    if draw.random() < 0.1:
        block.pop(path[-1], None)
        value = "deleted"
    else:
        value = block[path[-1]] = draw.choice(VALUES)
    what = f"{name}: {'.'.join(path)} = {shown(value)}"
    return survives(lambda: begin(config), what)


def mutate_command_line(draw, begin, monkeypatch):
    name = draw.choice(CONFIGS)
    config = configuration.load(f"configs/{name}.py").to_dict()
    fields = [*(".".join(path) for path in leaves(config)), *NEW, *UNKNOWN]
    field, text = draw.choice(fields), draw.choice(TEXTS)
    kinds = (f"--config.{field}={text}",) * 8 + (
        f"--config.{field}",
        f"--noconfig.{field}",
        f"--{field}={text}",
        f"--workdir={text}",
    )
    argument = draw.choice(kinds)

    def run():
        fresh = flags.FlagValues()
        fresh.append_flag_values(FLAGS)
        with monkeypatch.context() as patch:
            patch.setattr(main.flags, "FLAGS", fresh)
            main.parse_flags(["main", f"--config=configs/{name}.py", argument])
            if fresh.workdir:
                configuration.local_path(fresh.workdir, "--workdir")
            begin(fresh.config)

    return survives(run, f"{name}: {argument[:200]!r}")


FLAGS = flags.FLAGS


def run_many(count, seed, begin, monkeypatch):
    draw = random.Random(seed)
    ends = [
        mutate_in_python(draw, begin)
        if index % 2
        else mutate_command_line(draw, begin, monkeypatch)
        for index in range(count)
    ]
    # Most of what is drawn is wrong, and not all: both ways are seen.
    assert 0.03 < np.mean(ends) < 0.6


def test_no_config_ends_in_a_traceback(begin, monkeypatch):
    run_many(600, 0, begin, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_no_config_of_many_ends_in_a_traceback(begin, monkeypatch, seed):
    run_many(600, seed, begin, monkeypatch)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_as_it_is_can_begin(begin, name):
    begin(configuration.load(f"configs/{name}.py"))
