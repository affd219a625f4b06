"""The study on a small A: signals by their moments, errors and layers by NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optnet_jax.configs import sparse_coding as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import GradientDescent, methods
from optnet_jax.studies import sparse_coding
from optnet_jax.studies.markdown import select
from optnet_jax.studies.sparse_coding import STUDY, SparseCodingConfig, by_depth
from optnet_jax.studies.verdict import FEWER, MORE, SAME, direction, layers_needed


def small_config():
    config = config_file.get_config("quick")
    config.sparse_coding.update(
        rows=10, columns=16, steps=6, depth=3, iterations=40, test_signals=16
    )
    return config


def settings(**fields):
    config = small_config()
    with config.unlocked():
        config.sparse_coding.update(fields)
    return SparseCodingConfig.of(config)


class Own(GradientDescent):
    """A user's method: half a step."""

    def step(self, transform, state, c):
        return (state + transform(state)) / 2


def test_it_leaves_its_files_and_goes_on(tmp_path, monkeypatch, run_study):
    own = methods.Method("own", "Own", "", Own())
    monkeypatch.setattr(methods, "METHODS", (*methods.METHODS, own))
    config = small_config()
    config.sparse_coding.methods = ("gd", "own")
    report, text = run_study(STUDY, config, tmp_path)
    assert text.count("**cannot tell with n = 2") == 2
    assert text.count("| GD (7)") == text.count("| Own ") == 3
    for form, steps in (("method", 40), ("tied", 3), ("untied", 3)):
        for row in select(report["cells"], form=form):
            assert np.shape(row["error"]) == (2, steps + 1)
    # What is trained for six steps only is better than what it began as.
    for key in ("gd", "own"):
        begun, *trained = (
            select(report["cells"], form=form, method=key)[0]["error"]
            for form in sparse_coding.FORMS
        )
        for errors in trained:
            for seed in range(2):
                assert sum(errors[seed]) < sum(begun[seed][:4])


def test_signals_have_the_moments_that_are_asked_for():
    study = settings(rows=30, columns=60, support=0.2, snr_db=10.0).sparse_coding
    a = sparse_coding.draw_matrix(jax.random.key(0), study)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), 1, atol=1e-6)
    x, b = map(
        np.asarray, sparse_coding.draw_signals(jax.random.key(1), a, 4000, study)
    )
    assert np.mean(x != 0) == pytest.approx(0.2, abs=0.005)
    assert x[x != 0].std() == pytest.approx(1, abs=0.02)
    clean = x @ np.asarray(a).T
    snr = 10 * np.log10((clean**2).sum() / ((b - clean) ** 2).sum())
    assert snr == pytest.approx(10, abs=0.2)


def test_the_error_is_that_of_all_signals():
    x = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    iterates = jnp.stack([0 * x, x + jnp.array([[0.3, 0.4], [0, 0]])])
    np.testing.assert_allclose(sparse_coding.error_db(iterates, x), [0, -20], atol=1e-5)


def test_layers_are_compared_by_seed_and_judged():
    def rows(form, layers):
        """Errors that fall by 6 dB in so many layers, of six seeds."""
        return [
            {
                "form": form,
                "method": key,
                "error": [[-6.0 * k / n for k in range(13)]] * 6,
            }
            for key, n in layers.items()
        ]

    config = settings(levels_db=(-3.0, -6.0))
    untrained = rows("method", {"gd": 8, "agd": 4})
    for level, layers in ((-3, 2), (-6, 4)):
        of_agd = by_depth(untrained[1])
        assert [layers_needed(each, level) for each in of_agd] == [layers] * 6
    report = sparse_coding.conclude(
        config,
        [
            *untrained,
            *rows("tied", {"gd": 4, "agd": 8}),
            *rows("untied", {"gd": 4, "agd": 4}),
        ],
    )
    found = {each["form"]: each for each in report["compared"]}
    assert found["method"]["mean"] == -1
    directions = {form: direction(each["verdict"]) for form, each in found.items()}
    assert directions == {"method": FEWER, "tied": MORE, "untied": SAME}
    assert report["verdicts"]["tied"].startswith("reversed: 1 method(s) need fewer")
    assert report["verdicts"]["untied"].startswith("not supported")
    # Six seeds cannot tell two methods from GD: 2 · 2 / 2⁶ is above 5 %.
    three = {"gd": 8, "agd": 4, "hb": 4}
    every = [row for form in sparse_coding.FORMS for row in rows(form, three)]
    verdicts = sparse_coding.conclude(config, every)["verdicts"]
    assert verdicts["tied"].startswith("cannot tell with n = 6 and 2 tests")


def test_what_diverges_is_one_line():
    class Growing(GradientDescent):
        """It has no limit."""

        def step(self, transform, state, c):
            return 1e9 * transform(state)

    cell = sparse_coding.Cell("method", "growing", 40, Growing())
    match = r"NaN: take growing out of config\.sparse_coding\.methods, with another --w"
    with pytest.raises(InputError, match=f"method growing: an error is .* or {match}"):
        sparse_coding.measure(cell, settings(seeds=(0,)))


@pytest.mark.parametrize(
    ("key", "cure"),
    [
        ("gd", r"lower config\.sparse_coding\.learning_rate=1e\+20"),
        ("agd", r"lower .*=1e\+20 or take agd out of .*\.methods"),
    ],
)
def test_the_cure_of_what_diverges_in_training_can_be_followed(key, cure):
    """The baseline has to stay, and another config needs another workdir."""
    config = settings(seeds=(0,), learning_rate=1e20)
    cells = {cell.name: cell for cell in sparse_coding.plan(config)}
    with pytest.raises(InputError, match=rf"NaN: {cure}, with another --workdir$"):
        sparse_coding.measure(cells[f"tied {key}"], config)


def test_the_plan_has_each_method_in_each_form():
    config = SparseCodingConfig.of(config_file.get_config())
    cells = sparse_coding.plan(config)
    assert len({cell.name for cell in cells}) == len(cells) == 12
    assert {cell.depth for cell in cells} == {16, 200}
    assert dataclasses.replace(cells[0], depth=1).work < cells[0].work
