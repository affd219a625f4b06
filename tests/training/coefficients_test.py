import jax.numpy as jnp
import numpy as np

from optnet_jax.training.coefficients import CoefficientLog, learned_coefficients

PARAMS = {
    "stage_0": {"alpha": jnp.array([1.0, 2.0]), "conv": {"kernel": jnp.ones(3)}},
    "stage_1": {"beta1": jnp.array(0.5), "norm": {"bias": jnp.zeros(2)}},
    "alphabet": {"scale": jnp.ones(1)},
}


def test_coefficients_are_found_by_their_leaf_name():
    found = learned_coefficients(PARAMS)
    assert set(found) == {"stage_0.alpha", "stage_1.beta1"}
    np.testing.assert_array_equal(found["stage_0.alpha"], [1, 2])


def test_rows_are_appended_and_later_ones_dropped_on_resume(tmp_path):
    path = tmp_path / "coefficients.npz"
    log = CoefficientLog(path, 0)
    for step in (10, 20, 30):
        log.append(step, step / 10, {"alpha": np.full(2, step)})
    resumed = CoefficientLog(path, 20)
    resumed.append(30, 3.0, {"alpha": np.full(2, 99)})
    with np.load(path) as file:
        assert file["step"].tolist() == [10, 20, 30]
        assert file["epoch"].tolist() == [1.0, 2.0, 3.0]
        assert file["alpha"].tolist() == [[10, 10], [20, 20], [99, 99]]


def test_without_coefficients_there_is_no_file(tmp_path):
    CoefficientLog(tmp_path / "coefficients.npz", 0).append(1, 1.0, {})
    assert not list(tmp_path.iterdir())
