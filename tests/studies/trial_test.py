import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.recurrences import HeavyBall
from optnet_jax.studies import trial as trials
from optnet_jax.studies.fit import members
from optnet_jax.studies.images import Images


def make(recurrence=None, normalize=True, depth=6):
    return trials.Trial(recurrence or HeavyBall(1, -1), depth, 8, normalize)


def test_it_learns_and_says_how_large_its_gradients_were():
    """Two of twelve classes, told apart by the sign of the first pixel."""
    pixels = jax.random.normal(jax.random.key(0), (30, 16, 4))
    batches = pixels, 11 * (pixels[..., 0] > 0).astype(int)
    images = Images(batches, (pixels[0], batches[1][0]), classes=12)
    train = members(lambda *member: trials.train(make(), images, *member)[1])
    found = train(jnp.array([0, 1, 0]), jnp.array([0.1, 0.1, 0.0]))
    assert found.loss.shape == found.gradient_norm.shape == (3, 30)
    assert (found.loss[:2, -5:].mean(-1) < 0.5 * found.loss[:2, 0]).all()
    # At rate 0 nothing but the batch changes.
    assert found.loss[2].min() > 0.5
    assert (found.gradient_norm > 0).all()


def test_a_run_that_its_last_step_breaks_has_no_last_loss():
    pixels = jax.random.normal(jax.random.key(0), (1, 16, 4))
    labels = (pixels[..., 0] > 0).astype(int)
    images = Images((pixels, labels), (pixels[0], labels[0]), classes=2)
    train = members(lambda *member: trials.train(make(), images, *member)[1])
    found = train(jnp.array([0, 0]), jnp.array([0.1, jnp.inf]))
    assert np.isfinite(found.loss).tolist() == [[True], [False]]


def test_the_depth_counts_the_weight_layers():
    trial = make(depth=20)
    assert trial.units == 9
    params = trials.initial_parameters(trial, jax.random.key(0), 4, 10)
    kernels = params["units"]["kernel"]
    assert kernels.shape == (9, 2, 8, 8)
    assert 2 + kernels.shape[0] * kernels.shape[1] == 20


def test_without_normalisation_the_second_product_starts_smaller():
    def ratio(normalize):
        trial = make(normalize=normalize, depth=402)
        kernel = trials.initial_parameters(trial, jax.random.key(0), 4, 10)["units"][
            "kernel"
        ]
        return float(kernel[:, 1].std() / kernel[:, 0].std())

    assert ratio(True) == pytest.approx(1, rel=0.05)
    assert ratio(False) == pytest.approx(200**-0.5, rel=0.05)


def test_a_normalised_unit_has_mean_0_and_variance_1():
    params = trials.initial_parameters(make(), jax.random.key(0), 4, 10)
    weights = jax.tree.map(lambda leaf: leaf[0], params["units"])
    y = trials.unit(jax.random.normal(jax.random.key(1), (64, 8)), weights)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-3)


def test_the_structures_differ_in_the_recurrence_alone():
    shapes = [
        jax.tree.map(
            jnp.shape,
            trials.initial_parameters(make(r), jax.random.key(0), 4, 10),
        )
        for r in trials.STRUCTURES.values()
    ]
    assert all(shape == shapes[0] for shape in shapes)


def cell(structure, depth, failed_rates):
    """A cell of three rates of which each seed fails at so many."""
    failed = np.arange(3)[:, None] >= 3 - np.array(failed_rates)[None, :]
    return {
        "label": structure,
        "depth": depth,
        "normalize": True,
        "failed": failed.tolist(),
    }


@pytest.mark.parametrize(
    ("ours", "resnets", "expected"),
    [
        ([1] * 8, [2] * 8, "supported: of runs with 110 layers 8/24 of HB-Net's"),
        ([2] * 8, [1] * 8, "reversed: "),
        ([1] * 8, [1] * 8, "not supported: "),
        ([0, 0, 2, 2, 1, 1, 1, 1], [1] * 8, "not supported: "),
        # p = 2 / 2⁶ passes alone, and as one of two tests does not.
        ([0] * 6 + [1, 1], [1] * 8, "not supported: "),
        ([0] * 4, [3] * 4, "cannot tell with n = 4 and 2 tests"),
    ],
)
def test_each_direction_has_its_verdict(ours, resnets, expected):
    """At another depth it is the other way round: only the greatest counts."""
    cells = [
        cell(trials.HB_NET, 110, ours),
        cell(trials.RESNET, 110, resnets),
        cell(trials.HB_NET, 20, resnets),
        cell(trials.RESNET, 20, ours),
    ]
    verdict = trials.judge(cells, trials.compare_all(cells), True)
    assert verdict.startswith(expected)


def test_the_verdict_is_against_the_same_activation():
    assert trials.STRUCTURES[trials.RESNET].post_activation is None
    assert trials.STRUCTURES[trials.HB_NET].post_activation is None


def test_the_largest_rate_is_that_before_the_first_failure():
    failed = [[False, False, True], [False, True, False], [True, False, False]]
    found = trials.largest_rates({"failed": failed}, (0.1, 1.0, 10.0))
    np.testing.assert_array_equal(found, [1.0, 0.1, 0.0])
    found = trials.largest_rates({"failed": failed[::-1]}, (10.0, 1.0, 0.1))
    np.testing.assert_array_equal(found, [1.0, 0.1, 0.0])


def test_a_seed_that_diverged_counts_as_infinitely_bad():
    loss = [[0.1, 0.2, None], [None, None, 0.3]]
    np.testing.assert_array_equal(
        trials.median_loss({"final_loss": loss}), [0.2, np.inf]
    )
