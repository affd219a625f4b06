import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.training import schedule as schedule_lib

CIFAR_STEPS, IMAGENET_STEPS = 781, 5004


def drops(schedule, total):
    rates = np.array([schedule(step) for step in range(total)])
    where = np.flatnonzero(np.diff(rates)) + 1
    return where.tolist(), rates[np.r_[0, where]]


def test_cifar_drops_after_half_and_three_quarters():
    total = schedule_lib.steps_in_run(300.0, CIFAR_STEPS)
    schedule = schedule_lib.learning_rate_schedule(0.1, total)
    assert total == 300 * CIFAR_STEPS
    for epoch, before, after in ((150, 0.1, 0.01), (225, 0.01, 0.001)):
        assert float(schedule(epoch * CIFAR_STEPS - 1)) == pytest.approx(before)
        assert float(schedule(epoch * CIFAR_STEPS)) == pytest.approx(after)
    assert float(schedule(total - 1)) == pytest.approx(0.001)


def test_imagenet_drops_at_epochs_30_60_90():
    total = schedule_lib.steps_in_run(100.0, IMAGENET_STEPS)
    schedule = schedule_lib.learning_rate_schedule(0.1, total, drop_at=(0.3, 0.6, 0.9))
    for epoch, after in ((30, 0.01), (60, 0.001), (90, 0.0001)):
        assert float(schedule(epoch * IMAGENET_STEPS - 1)) == pytest.approx(10 * after)
        assert float(schedule(epoch * IMAGENET_STEPS)) == pytest.approx(after)


def test_warm_up_is_linear_and_ends_at_the_rate():
    schedule = schedule_lib.learning_rate_schedule(1.0, 100, drop_at=(), warmup_steps=4)
    rates = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1, 1, 1])


def test_drops_are_independent_of_the_warm_up():
    schedule = schedule_lib.learning_rate_schedule(
        1.0, 8, drop_at=(0.5,), drop_factor=0.5, warmup_steps=1
    )
    where, rates = drops(schedule, 8)
    assert where == [4]
    np.testing.assert_allclose(rates, [1.0, 0.5])


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_first_step_has_the_full_rate_however_short_the_run(total):
    schedule = schedule_lib.learning_rate_schedule(0.1, total, drop_at=(0.1, 0.5, 0.75))
    assert float(schedule(0)) == pytest.approx(0.1)


def test_steps_win_over_epochs():
    assert schedule_lib.steps_in_run(300.0, 781, steps=7) == 7
    assert schedule_lib.steps_in_run(0.5, 10) == 5
    assert schedule_lib.steps_in_run(0.001, 10) == 1


def test_interval_in_epochs():
    assert schedule_lib.steps_in_interval(0.5, 10) == 5
    assert schedule_lib.steps_in_interval(0.001, 10) == 1


def test_a_run_without_length_or_too_long_for_its_counter_is_refused():
    with pytest.raises(InputError, match="no length.*schedule.epochs"):
        schedule_lib.steps_in_run(0.0, 10)
    match = (
        r"schedule.epochs=1e\+09 are 781,000,000,000 steps: .* at most "
        "--config.schedule.epochs=2749658"
    )
    with pytest.raises(InputError, match=match):
        schedule_lib.steps_in_run(1e9, 781)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_a_smooth_decay_begins_after_the_warm_up_and_ends_at_0(decay):
    rate = schedule_lib.learning_rate_schedule(0.2, 24, decay=decay, warmup_steps=4)
    found = [float(rate(step)) for step in range(24)]
    rising = [0.05, 0.1, 0.15, 0.2]
    share = np.arange(20) / 20
    falling = 1 - share if decay == "linear" else (1 + np.cos(np.pi * share)) / 2
    np.testing.assert_allclose(found, [*rising, *(0.2 * falling)], rtol=1e-5)
    assert float(rate(24)) < 1e-8
    short = schedule_lib.learning_rate_schedule(0.2, 2, decay=decay, warmup_steps=4)
    np.testing.assert_allclose([short(0), short(1)], [0.05, 0.1], rtol=1e-6)
