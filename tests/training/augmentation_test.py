import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.training import augmentation

augment = jax.jit(augmentation.augment, static_argnames=("erase", "mixup", "cutmix"))
COUNT, HEIGHT, WIDTH = 64, 10, 16
RNG = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(RNG.normal(2, 0.1, (COUNT, HEIGHT, WIDTH, 3)), jnp.float32),
    "label": jnp.arange(COUNT),
}
KEYS = jax.random.split(jax.random.key(0), 400)


def test_erasing_paints_one_rectangle_of_some_images():
    images = np.asarray(augment(KEYS[0], BATCH, erase=0.5)["image"])
    gone = (images == 0).all(-1)
    np.testing.assert_array_equal(images[~gone], np.asarray(BATCH["image"])[~gone])
    hit = gone.any((1, 2))
    assert 18 < hit.sum() < 46
    for mask in gone[hit]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[np.ix_(rows, columns)].all()
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()
    assert (augment(KEYS[0], BATCH, erase=1.0)["image"] == 0).any((1, 2, 3)).all()


def test_where_it_erases_is_spread_evenly():
    wide = {**BATCH, "image": jnp.ones((4000, 9, 9, 1))}
    gone = 1 - np.asarray(augment(KEYS[0], wide, erase=1.0)["image"]).mean((0, 3))
    assert 0.15 < gone.mean() < 0.23
    np.testing.assert_allclose(gone, gone[::-1], atol=0.04)
    np.testing.assert_allclose(gone, gone.T, atol=0.04)


def test_mixup_is_a_mean_of_two_images_and_of_their_labels():
    mixed = augment(KEYS[1], BATCH, mixup=1.0)
    share = float(mixed["share"][0])
    assert 0 < share < 1
    np.testing.assert_array_equal(mixed["label"], BATCH["label"])
    np.testing.assert_array_equal(mixed["partner"], BATCH["label"][::-1])
    images = np.asarray(BATCH["image"])
    np.testing.assert_allclose(
        mixed["image"], share * images + (1 - share) * images[::-1], rtol=1e-5
    )


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_share_of_mixup_is_from_a_beta_distribution(alpha):
    draw = jax.vmap(lambda key: augmentation.mixup_share(key, alpha, (1, 1))[0, 0])
    shares = np.asarray(draw(KEYS))
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    # Var Beta(a, a) = 1 / (4 (2 a + 1)).
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_cutmix_pastes_a_rectangle_and_says_its_share():
    for key in KEYS[:20]:
        mixed = augment(key, BATCH, cutmix=1.0)
        images, others = np.asarray(BATCH["image"]), np.asarray(BATCH["image"])[::-1]
        kept = np.asarray(mixed["image"]) == images
        pasted = ~kept.all(-1)
        assert (np.asarray(mixed["image"]) == others)[pasted].all()
        assert (pasted == pasted[0]).all()
        rows, columns = (
            np.flatnonzero(pasted[0].any(1)),
            np.flatnonzero(pasted[0].any(0)),
        )
        assert pasted[0][np.ix_(rows, columns)].all()
        share = 1 - len(rows) * len(columns) / (HEIGHT * WIDTH)
        np.testing.assert_allclose(mixed["share"], share, rtol=1e-5)


def test_with_both_each_step_takes_one_of_them():
    mixed = jax.vmap(lambda key: augment(key, BATCH, mixup=1.0, cutmix=1.0)["image"])
    images = np.asarray(BATCH["image"])
    whole = (np.asarray(mixed(KEYS[:60])) == images).any((1, 2, 3, 4))
    assert 15 < whole.sum() < 45
