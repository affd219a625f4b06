import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.configuration import TrainConfig
from optnet_jax.recurrences import HistorySum
from optnet_jax.runs import files
from optnet_jax.structures import Propagation
from optnet_jax.training import coefficients
from optnet_jax.training.coefficients import CoefficientLog, learned_coefficients


class Relaxed:
    """A user's recurrence, whose coefficient has a name of its own."""

    paths = 1

    def coefficients(self, depth):
        return {"memory": jnp.full(depth, 0.25)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return (1 - c["memory"]) * transform(state) + c["memory"] * state

    def output(self, state):
        return state


class RelaxedPair(Relaxed):
    """The same with two paths."""

    paths = 2

    def init(self, x0):
        return x0 if isinstance(x0, tuple) else (x0, x0)

    def iterates(self, state):
        return state

    def step(self, transform, state, c):
        operators = transform if isinstance(transform, tuple) else (transform,) * 2
        mixed = zip(operators, state, strict=True)
        return tuple(t(x) + c["memory"] * x for t, x in mixed)

    def output(self, state):
        return state[1]


class Sum(nn.Module):
    """A combination of a history."""

    @nn.compact
    def __call__(self, sources, alpha=None):
        return nn.Dense(3)(sum(sources) if alpha is None else sources[0] * alpha[0])


def declared_by(module, x):
    with coefficients.declared() as paths:
        variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return {n for n in coefficients.flatten(variables["params"]) if n in paths}


FORMS = {
    "scanned": {},
    "unrolled": {"unroll": True},
    "tied": {"tied": True},
    "remat": {"remat": True},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recurrence", [Relaxed, RelaxedPair])
def test_a_users_own_coefficients_are_known(recurrence, form):
    network = nn.Sequential(
        [
            nn.Dense(3),
            Propagation(
                recurrence(), nn.Dense(3), 2, learned=("memory",), **FORMS[form]
            ),
        ]
    )
    found = declared_by(network, jnp.ones((1, 2)))
    assert found == {"layers_1.memory"}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Propagation(Relaxed(), nn.Dense(3), 2), set()),
        (Propagation(Relaxed(), jnp.tanh, 2, learned=("memory",)), {"memory"}),
        (
            Propagation(HistorySum(), Sum(), 2, learned=("alpha", "beta")),
            {"alpha", "beta"},
        ),
        (Propagation(HistorySum(), Sum(), 2, learned=("beta",), remat=True), {"beta"}),
    ],
)
def test_no_more_and_no_less_than_what_is_learned(module, expected):
    assert declared_by(module, jnp.ones((1, 3))) == expected


def test_an_experiment_records_what_its_network_learns(small):
    from optnet_jax.training import experiment

    built = experiment.build(TrainConfig.of(small.small_config()))
    assert built.learned == {"alpha"}
    state = built.init_state()
    found = learned_coefficients(state.params, built.learned)
    np.testing.assert_array_equal(found["alpha"], [1, 1])


def test_rows_are_appended_and_later_ones_dropped_on_resume(tmp_path):
    path = tmp_path / "coefficients.npz"
    log = CoefficientLog(path, 0)
    for step in (10, 20, 30):
        log.append(step, step / 10, {"alpha": np.full(2, step, np.float32)})
    log._lines.close()  # as a kill closes it, with the archive unwritten
    resumed = CoefficientLog(path, 20)
    resumed.append(30, 3.0, {"alpha": np.full(2, 99)})
    resumed.close()
    with np.load(path) as file:
        assert file["step"].tolist() == [10, 20, 30]
        assert file["epoch"].tolist() == [1.0, 2.0, 3.0]
        assert file["alpha"].tolist() == [[10, 10], [20, 20], [99, 99]]


def test_a_row_is_safe_at_once_and_the_archive_written_seldom(tmp_path, monkeypatch):
    """The bytes written for n rows are a multiple of the last archive's, not of n²."""
    path = tmp_path / "coefficients.npz"
    written = []
    write = files.write_durably

    def count(file, content):
        write(file, content)
        written.append(file.stat().st_size)

    monkeypatch.setattr(files, "write_durably", count)
    log = CoefficientLog(path, 0)
    for step in range(1, 401):
        log.append(step, step / 10, {"omega": np.array([step, -step], np.float32)})
        assert len(coefficients.json_lines.read(path.with_suffix(".jsonl"))) == step
    log.close()
    assert coefficients.read(path)["omega"].tolist()[-1] == [400, -400]
    assert sum(written) < 40 * written[-1]


@pytest.mark.parametrize("damage", [b"", b"\0" * 64, b"text", "cut", "not there"])
@pytest.mark.parametrize("name", ["coefficients.npz", "coefficients.jsonl"])
def test_one_damaged_file_is_made_again_from_the_other(tmp_path, name, damage):
    path = tmp_path / "coefficients.npz"
    log = CoefficientLog(path, 0)
    for step in (1, 2, 3):
        log.append(step, step / 10, {"omega": np.float32([step, 0.1])})
    log.close()
    before = coefficients.read(path)
    file = tmp_path / name
    if damage == "not there":
        file.unlink()
    else:
        cut = file.read_bytes()[:-30]
        file.write_bytes(cut if damage == "cut" else damage)
    CoefficientLog(path, 3, 3).close()
    after = coefficients.read(path)
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_both_lost_is_said_once_and_gone_on_with(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        "absl.logging.warning", lambda text, *args: said.append(text % args)
    )
    log = CoefficientLog(tmp_path / "coefficients.npz", 3, 3)
    log.append(4, 0.4, {"omega": np.float32(1)})
    log.close()
    assert [text.split("/")[-1] for text in said] == [
        "coefficients.jsonl has 0 of 3 rows up to step 3: the others are lost, and the "
        "run goes on without them"
    ]
    assert coefficients.read(tmp_path / "coefficients.npz")["step"].tolist() == [4]


def test_without_coefficients_there_is_no_file(tmp_path):
    CoefficientLog(tmp_path / "coefficients.npz", 0).append(1, 1.0, {})
    assert not list(tmp_path.iterdir())
