import jax
import numpy as np
import pytest

from optnet_jax.benchmarks import jax_runs
from optnet_jax.benchmarks.networks import twin_runs
from optnet_jax.benchmarks.torch_process import TorchProcess
from optnet_jax.errors import InputError
from optnet_jax.networks import create

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def case():
    network, shape = create("resnet20"), (8, 8, 3)
    batch = jax_runs.random_batch(2, shape, 10)
    state = jax_runs.initial_state(network, shape)
    logits = network.apply(state.eval_variables, batch["image"], train=False)
    form = {"compiled": False, "bfloat16": False}
    return twin_runs, "resnet20", state.eval_variables, batch, logits, form


def test_it_measures_itself(case):
    with TorchProcess(*case) as theirs:
        assert all(theirs.seconds(kind) > 0 for kind in ("train", "inference"))
    assert theirs._process.exitcode == 0


def test_other_logits_are_refused_in_this_process(case):
    *same, logits, form = case
    other = logits + 0.1 * np.abs(jax.device_get(logits)).max()
    with pytest.raises(InputError, match="the networks are not the same"):
        TorchProcess(*same, other, form)


def test_its_end_is_told(case):
    with TorchProcess(*case) as theirs:
        theirs._process.terminate()
        theirs._process.join()
        with pytest.raises(InputError, match="PyTorch's process ended"):
            theirs._receive()
