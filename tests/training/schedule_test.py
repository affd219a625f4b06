import numpy as np
import pytest

from optnet_jax.configuration.train import Schedule
from optnet_jax.errors import InputError
from optnet_jax.training import schedule as schedule_lib

CIFAR_STEPS, IMAGENET_STEPS = 781, 5004


def rates(total, learning_rate=1.0, **fields):
    """The rate of each step of a run, whose epochs have one."""
    config = Schedule(steps=total, **fields)
    rate = schedule_lib.learning_rate_schedule(config, learning_rate, 1)
    return [float(rate(step)) for step in range(total)]


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs", "drops"),
    [(CIFAR_STEPS, 300, (150, 225)), (IMAGENET_STEPS, 100, (30, 60, 90))],
    ids=["cifar", "imagenet"],
)
def test_the_papers_rates_drop_at_its_epochs(steps_per_epoch, epochs, drops):
    drop_at = tuple(epoch / epochs for epoch in drops)
    config = Schedule(epochs=epochs, drop_at=drop_at)
    total = schedule_lib.steps_in_run(config, steps_per_epoch)
    assert total == epochs * steps_per_epoch
    rate = schedule_lib.learning_rate_schedule(config, 0.1, steps_per_epoch)
    for number, epoch in enumerate(drops):
        before, after = (float(rate(epoch * steps_per_epoch + n)) for n in (-1, 0))
        assert before == pytest.approx(0.1**number * 0.1)
        assert after == pytest.approx(0.1**number * 0.01)
    assert float(rate(total - 1)) == pytest.approx(after)


def test_warm_up_is_linear_and_ends_at_the_rate():
    found = rates(100, drop_at=(), warmup_epochs=4)
    np.testing.assert_allclose(found[:6], [0.25, 0.5, 0.75, 1, 1, 1])


def test_drops_are_independent_of_the_warm_up():
    found = rates(8, drop_at=(0.5,), drop_factor=0.5, warmup_epochs=1)
    np.testing.assert_allclose(found, [1.0] * 4 + [0.5] * 4)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_first_step_has_the_full_rate_however_short_the_run(total):
    assert rates(total, drop_at=(0.1, 0.5, 0.75))[0] == pytest.approx(1.0)


def test_steps_win_over_epochs_and_no_length_or_interval_is_0():
    for changes, expected in (({"steps": 7}, 7), ({"epochs": 0.001}, 1)):
        config = Schedule(**{"epochs": 0.5, **changes})
        assert schedule_lib.steps_in_run(config, 10) == expected
    assert schedule_lib.steps_in_run(Schedule(epochs=0.5), 10) == 5
    assert schedule_lib.steps_in_interval(0.5, 10) == 5
    assert schedule_lib.steps_in_interval(0.001, 10) == 1


def test_a_run_too_long_for_its_counter_is_refused():
    match = (
        r"schedule.epochs=1e\+09 are 781,000,000,000 steps: .* at most "
        "--config.schedule.epochs=2749658"
    )
    with pytest.raises(InputError, match=match):
        schedule_lib.steps_in_run(Schedule(epochs=1e9), 781)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_a_smooth_decay_begins_after_the_warm_up_and_ends_at_0(decay, capsys):
    found = rates(25, 0.2, decay=decay, warmup_epochs=4)
    rising = [0.05, 0.1, 0.15, 0.2]
    share = np.arange(21) / 21
    falling = 1 - share if decay == "linear" else (1 + np.cos(np.pi * share)) / 2
    np.testing.assert_allclose(found, [*rising, *(0.2 * falling)], rtol=1e-5)
    rate = schedule_lib.learning_rate_schedule(Schedule(steps=25, decay=decay), 0.2, 1)
    assert float(rate(25)) < 1e-8
    assert "warm-up" not in capsys.readouterr().out
    short = rates(2, 0.2, decay=decay, warmup_epochs=4)
    assert (
        "longer than the run, whose learning rate ends at 0.1"
        in capsys.readouterr().out
    )
    np.testing.assert_allclose(short, [0.05, 0.1], rtol=1e-6)
