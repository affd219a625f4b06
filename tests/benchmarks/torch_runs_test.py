import jax
import numpy as np
import pytest

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.jax_runs import random_batch
from optnet_jax.errors import InputError
from optnet_jax.networks import create

pytest.importorskip("torch")

SMALL = {
    "resnet": {"stage_sizes": (2, 2), "widths": (4, 8)},
    "hb_net": {"stage_sizes": (2, 2), "widths": (4, 8), "shortcut": "projection"},
    "densenet": {"stage_sizes": (2, 3), "growth_rate": 4},
    "agd_net": {"stage_sizes": (3, 2), "growth_rate": 4, "bottleneck": True},
}


def twin_of(name, size=16):
    from optnet_jax.benchmarks.torch_runs import Twin

    network = create(name, **SMALL[name])
    batch = random_batch(2, (size, size, 3), 10)
    state = jax_runs.initial_state(network, (size, size, 3))
    # α is 1 and the running statistics are 0 and 1 at first, which hides mistakes.
    leaves, tree = jax.tree.flatten(state.eval_variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [
        leaf + 0.2 * jax.random.uniform(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    variables = jax.tree.unflatten(tree, leaves)
    logits = network.apply(variables, batch["image"], train=False)
    return Twin(network, variables, batch), np.asarray(logits)


@pytest.mark.parametrize("name", SMALL)
def test_both_compute_the_same_logits(name):
    twin, logits = twin_of(name)
    assert twin.check(logits) < 1e-5
    with pytest.raises(InputError, match="the networks are not the same"):
        twin.check(logits + 0.1 * np.abs(logits).max())


def test_a_step_moves_the_weights():
    twin, _ = twin_of("resnet")
    run = twin.training_run(compiled=False, bfloat16=False)
    losses = [float(run().detach()) for _ in range(8)]
    assert losses[-1] < losses[0]
    logits = twin.inference_run(compiled=False, bfloat16=True)()
    assert logits.shape == (2, 10)
