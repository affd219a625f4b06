import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import HistorySum, TwoPath
from optnet_jax.structures import Propagation
from optnet_jax.training import coefficients


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


class Sum(nn.Module):
    """A combination of a history."""

    @nn.compact
    def __call__(self, sources, alpha=None):
        return nn.Dense(3)(sum(sources) if alpha is None else sources[0] * alpha[0])


def declared_by(module, x):
    with coefficients.declared() as paths:
        variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return {n for n in coefficients.flatten(variables["params"]) if n in paths}


@pytest.mark.parametrize(
    "form", [{}, {"unroll": True}, {"tied": True}, {"remat": True}]
)
@pytest.mark.parametrize("recurrence", [Relaxed(), TwoPath()])
def test_coefficients_are_known_in_every_form(recurrence, form):
    """A user's own too, and those of two paths."""
    second = Propagation(recurrence, nn.Dense(3), 2, learned=("memory",), **form)
    network = nn.Sequential([nn.Dense(3), second])
    assert declared_by(network, jnp.ones((1, 2))) == {"layers_1.memory"}


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


def write(workdir, rows):
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (workdir / "coefficients.jsonl").write_text(text)


ROWS = [{"step": n, "epoch": n / 10, "omega": [n, 0.1]} for n in (1, 2, 3)]


def test_lines_become_arrays_of_the_type_of_parameters(tmp_path):
    assert coefficients.read(tmp_path) == {}
    write(tmp_path, ROWS)
    found = coefficients.read(tmp_path)
    assert found["step"].tolist() == [1, 2, 3]
    assert found["epoch"].tolist() == [0.1, 0.2, 0.3]
    expected = np.array([[1, 0.1], [2, 0.1], [3, 0.1]], np.float32)
    np.testing.assert_array_equal(found["omega"], expected)
    assert found["omega"].dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [{"omega": 3}, {"omega": "a"}, {"epoch": [1]}, {"new": 1}],
)
def test_a_row_of_another_form_than_the_last_is_left_out(tmp_path, change):
    write(tmp_path, [{**ROWS[0], **change}, *ROWS[1:]])
    assert coefficients.read(tmp_path)["step"].tolist() == [2, 3]


def test_the_archive_is_what_the_lines_say(tmp_path):
    archive = tmp_path / "coefficients.npz"
    archive.write_bytes(b"of an earlier start")
    write(tmp_path, ROWS)
    coefficients.write_arrays(tmp_path)
    with np.load(archive) as file:
        for name, values in coefficients.read(tmp_path).items():
            np.testing.assert_array_equal(file[name], values)
    write(tmp_path, [])
    coefficients.write_arrays(tmp_path)
    assert not archive.exists()
