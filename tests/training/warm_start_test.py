import jax
import numpy as np
import optax
import pytest

from optnet_jax import networks
from optnet_jax.errors import InputError
from optnet_jax.networks import torchvision
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.state import create_state
from optnet_jax.training.warm_start import read_variables, warm_start

SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def make_state(small, seed, momentum=0.9, average=False, **fields):
    optimizer = optax.sgd(0.1, momentum=momentum)
    key = jax.random.key(seed)
    module = small.SmallNet(**fields)
    return create_state(module, optimizer, key, (8, 8, 1), average=average)


@pytest.fixture
def saved(small, tmp_path):
    """Steps 1, 2, 3 of a run whose best step is 2; other seeds, other variables."""
    with Checkpoints(tmp_path / "checkpoints", sharding=SHARDING, keep=3) as store:
        for step in (1, 2, 3):
            state = make_state(small, step).replace(step=np.int32(step))
            store.save(state, {"best": {"step": 2}}, best_step=2)
        store.wait()
    return tmp_path


@pytest.mark.parametrize(("suffix", "seed"), [("", 3), ("@best", 2), ("@1", 1)])
def test_variables_of_the_named_step(small, saved, suffix, seed):
    fresh = make_state(small, 9, momentum=None, average=True)
    state = warm_start(fresh, small.SmallNet(), f"{saved}{suffix}", SHARDING)
    expected = make_state(small, seed)
    for name in ("params", "batch_stats"):
        for part in (getattr(state, name), state.average[name]):
            jax.tree.map(np.testing.assert_array_equal, part, getattr(expected, name))
    assert int(state.step) == 0
    assert jax.tree.structure(state) == jax.tree.structure(fresh)


def test_another_network_is_refused(small, saved):
    with pytest.raises(InputError, match=r"\(4,\) there and \(6,\) here"):
        warm_start(
            make_state(small, 0, features=6), small.SmallNet(), str(saved), SHARDING
        )


def test_missing_checkpoints_and_steps_are_named(small, saved, tmp_path):
    state = make_state(small, 0)
    with pytest.raises(InputError, match=r"use last, best, or a step of \[1, 2, 3\]"):
        warm_start(state, small.SmallNet(), f"{saved}@7", SHARDING)
    with pytest.raises(InputError, match="there is no checkpoint in"):
        warm_start(state, small.SmallNet(), str(tmp_path / "nowhere"), SHARDING)


def test_the_average_is_what_is_read(small, tmp_path):
    state = make_state(small, 0, average=True)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, state.average)
    with Checkpoints(tmp_path, sharding=SHARDING) as store:
        store.save(state.replace(average=doubled), {})
        store.wait()
        _, leaves = read_variables(store, "last")
    kernel = state.params["Conv_0"]["kernel"]
    np.testing.assert_array_equal(leaves["params.Conv_0.kernel"], 2 * kernel)
    assert all(name.startswith(("params.", "batch_stats.")) for name in leaves)


def test_weights_of_torchvision_are_taken_over(tmp_path):
    module = networks.create(
        "resnet34", stage_sizes=(1, 1), widths=(4, 8), num_classes=3
    )
    optimizer = optax.sgd(0.1)
    states = [
        create_state(module, optimizer, jax.random.key(seed), (32, 32, 3))
        for seed in (1, 2)
    ]
    file = tmp_path / "weights.npz"
    torchvision.save(module, states[0].eval_variables, file)
    warm = warm_start(states[1], module, str(file), SHARDING)
    jax.tree.map(np.testing.assert_array_equal, warm.params, states[0].params)
    assert jax.tree.structure(warm) == jax.tree.structure(states[1])
    with pytest.raises(InputError, match="missing.npz"):
        warm_start(states[1], module, str(tmp_path / "missing.npz"), SHARDING)
