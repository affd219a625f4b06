import importlib

import jax
import numpy as np
import pytest

from optnet_jax.benchmarks import programs
from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.recurrences import methods
from optnet_jax.structures import FullyConnected, Propagation

pytest.importorskip("torch")
torch_twins = importlib.import_module("optnet_jax.benchmarks.torch_twins")

SMALL = {
    "resnet": {"stage_sizes": (2, 2), "widths": (4, 8)},
    "hb_net": {"stage_sizes": (2, 2), "widths": (4, 8), "shortcut": "projection"},
    "densenet": {"stage_sizes": (2, 3), "growth_rate": 4},
    "agd_net": {"stage_sizes": (3, 2), "growth_rate": 4, "bottleneck": True},
}


@pytest.fixture
def runs_of(monkeypatch):
    def make(name, error=0.0, bfloat16=False):
        network = create(name, **SMALL[name])
        monkeypatch.setattr(torch_twins, "create", {"small": network}.get)
        state, batch = programs.start(network, (16, 16, 3), 2)
        # α is 1 and the running statistics are 0 and 1 at first, which hides mistakes.
        leaves, tree = jax.tree.flatten(state.eval_variables)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        leaves = [
            leaf + 0.2 * jax.random.uniform(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ]
        variables = jax.tree.unflatten(tree, leaves)
        logits = np.asarray(network.apply(variables, batch["image"], train=False))
        logits = logits + error * np.abs(logits).max()
        arguments = ("cpu", logits, "small", variables, batch, False, bfloat16)
        return torch_twins.network_runs(*arguments)

    return make


@pytest.mark.parametrize("name", SMALL)
def test_both_compute_the_same_logits(name, runs_of, monkeypatch):
    monkeypatch.setattr(torch_twins, "TOLERANCE", 1e-5)
    assert np.isfinite(float(runs_of(name)["train"]().detach()))
    with pytest.raises(InputError, match="the two are not the same"):
        runs_of(name, error=1e-3)


@pytest.mark.parametrize("name", ["lenet5", "vit_tiny16", "plain", "nesterov_net56"])
def test_a_network_that_is_not_written_out_has_no_runs(name, capsys):
    arguments = ("cpu", None, name, None, None, False, False)
    assert torch_twins.network_runs(*arguments) == {}
    assert (
        capsys.readouterr().out
        == f"{name} has no PyTorch form: only ours is measured\n"
    )


def test_a_step_moves_the_weights(runs_of):
    runs = runs_of("agd_net", bfloat16=True)
    losses = [float(runs["train"]().detach()) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert runs["inference"]().shape == (2, 10)


@pytest.mark.parametrize("key", ["gd", "hb", "agd", "agd2", "admm"])
def test_a_structure_of_table_2_takes_the_same_step(key):
    recurrence = methods.find(key).recurrence()
    network = Propagation(recurrence, FullyConnected(), 3, separate_paths=key == "admm")
    x, f = jax.random.normal(jax.random.key(0), (2, 5, 4))
    params = network.init(jax.random.key(1), x)["params"]

    def loss(params):
        return ((network.apply({"params": params}, x) - f) ** 2).mean()

    outputs = {key: network.apply({"params": params}, x)}
    weights = {key: params["layers"]}
    arguments = jax.device_get((weights, x, f))
    (step,) = torch_twins.structure_runs("cpu", outputs, *arguments).values()
    for _ in range(2):
        value, gradient = jax.value_and_grad(loss)(params)
        np.testing.assert_allclose(float(step().detach()), value, rtol=1e-5)
        params = jax.tree.map(
            lambda w, g: w - programs.LEARNING_RATE * g, params, gradient
        )
    outputs[key] = outputs[key] + 0.1
    with pytest.raises(InputError, match="the two are not the same"):
        torch_twins.structure_runs("cpu", outputs, *arguments)
