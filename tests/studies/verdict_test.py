"""Made-up results, one in each direction, and the verdict that they must give."""

import numpy as np
import pytest

from optnet_jax.studies import verdict
from optnet_jax.studies.comparison import compare
from optnet_jax.studies.comparison import verdict as judged

FEWER, MORE, SAME = verdict.FEWER, verdict.MORE, verdict.SAME
TOLERANCES = (0.1, 0.01)
DEPTHS = (1, 2, 4, 8)


def errors(first, last, seeds=8):
    """depth -> error: 0.1 is reached at ``first``, 0.01 at ``last`` (None: never)."""
    last = last or 100
    by_depth = {k: 0.005 if k >= last else 0.05 if k >= first else 0.5 for k in DEPTHS}
    return [by_depth] * seeds


def test_the_smallest_depth_counts_even_if_a_deeper_network_is_worse():
    assert verdict.layers_needed({4: 0.01, 8: 0.5, 2: 0.2}, 0.1) == 4
    assert verdict.layers_needed({1: 0.5}, 0.1) is None


def test_doublings_are_the_mean_over_the_errors_and_beyond_is_twice_the_deepest():
    assert verdict.doublings(errors(2, 8)[0], TOLERANCES) == pytest.approx((1 + 3) / 2)
    assert verdict.doublings(errors(4, None)[0], TOLERANCES) == (2 + 4) / 2


@pytest.mark.parametrize(
    ("ours", "theirs", "expected", "mean"),
    [
        (errors(1, 2), errors(2, 4), FEWER, -1),
        (errors(4, None), errors(2, 8), MORE, 1),
        (errors(2, 4), errors(2, 4), SAME, 0),
        # One seed of eight.
        ([*errors(1, 2, 1), *errors(2, 4, 7)], errors(2, 4), SAME, -1 / 8),
        (
            errors(1, 1, 5),
            errors(8, 8, 5),
            "cannot tell with n = 5, 6 seeds could",
            -3,
        ),
    ],
)
def test_layers_are_compared_by_seed(ours, theirs, expected, mean):
    layers = (
        {seed: verdict.doublings(e, TOLERANCES) for seed, e in enumerate(seeds)}
        for seeds in (ours, theirs)
    )
    found = compare(*layers)
    p_values = found["p_value"], found["least_p_value"]
    assert verdict.direction(judged(found, *p_values)) == expected
    assert found["mean"] == mean


def test_corrected_p_values_are_those_of_the_definition():
    """Holm's tests, in order until one fails, reject what lies below a level."""
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 7):
        p = rng.uniform(size=n) ** 3
        corrected = np.array(verdict.holm(p.tolist()))
        for level in rng.uniform(size=50):
            rejected = np.zeros(n, bool)
            for tested, i in enumerate(np.argsort(p)):
                if p[i] > level / (n - tested):
                    break
                rejected[i] = True
            np.testing.assert_array_equal(corrected <= level, rejected)
    assert verdict.holm([0.02, 0.02, 0.9]) == pytest.approx([0.06, 0.06, 0.9])


def test_what_is_reported_together_is_judged_at_corrected_p_values():
    """Eight equal differences: p = 2⁻⁷, above 5 % only as one of seven or more."""
    found = compare(dict.fromkeys(range(8), 0.0), dict.fromkeys(range(8), 1.0))
    for number, expected in ((1, "better"), (6, "better"), (7, "cannot tell with n")):
        judged = verdict.together([({}, found)] * number)
        assert [each["p_value"] for each in judged] == [2**-7] * number
        assert judged[-1]["p_corrected"] == number * 2**-7
        assert all(each["verdict"].startswith(expected) for each in judged)
    # Beside a chance difference the first is corrected for both, the second for one.
    other = compare({0: 1.0, 1: 0.0}, {0: 0.0, 1: 0.0})
    first, second = verdict.together([({"of": 1}, found), ({"of": 2}, other)])
    assert (first["of"], second["of"]) == (1, 2)
    assert first["p_corrected"] == 2 * 2**-7
    assert second["p_corrected"] == second["p_value"] == 1


def test_each_is_compared_with_the_baseline_beside_it_and_marked():
    """Of seven equal tests with eight seeds none can be below 5 %, of one it is."""

    def values(number):
        return [
            ({"depth": depth, "method": method}, [value] * 8)
            for depth in range(number)
            for method, value in (("gd", 3.0), ("less", 2.0))
        ]

    (found,) = verdict.against({"method": "gd"}, values(1))
    assert (found["depth"], found["method"], found["mean"]) == (0, "less", -1)
    assert verdict.mark([found], depth=0, method="less") == " ↓"
    assert verdict.mark([found], depth=0, method="gd") == ""
    assert verdict.p_value([found], depth=0, method="less") == "0.0078"
    assert verdict.p_value([found], depth=0, method="gd") == ""
    for each in (many := verdict.against({"method": "gd"}, values(7))):
        assert each["verdict"] == "cannot tell with n = 8 and 7 tests, 9 seeds could"
        assert each["p_corrected"] == pytest.approx(7 * 2 / 2**8)
    assert [each["depth"] for each in many] == list(range(7))
    # What has no baseline beside it is compared with nothing.
    assert not verdict.against({"method": "gd"}, values(1)[1:])


@pytest.mark.parametrize(
    ("methods", "networks", "expected"),
    [
        ("FFM", "FFM", "supported: 2 method(s) need fewer"),
        ("FFM", "FSM", "supported: "),
        ("FFM", "FSS", "supported: "),
        ("FFM", "MMS", "reversed: "),
        ("FFM", "MSF", "reversed: "),
        ("FFM", "SSM", "not supported: "),
        ("FFM", "FMS", "not supported: "),
        ("SSM", "FFF", "not supported: no method is faster"),
        ("FFM", "FCM", "cannot tell with n = 4 and 20 tests, 10 seeds could"),
        ("", "", "cannot tell: no method"),
    ],
)
def test_each_direction_has_its_verdict(methods, networks, expected):
    words = {
        "F": FEWER,
        "M": MORE,
        "S": SAME,
        "C": "cannot tell with n = 4 and 20 tests, 10 seeds could",
    }
    labels = ("HB", "AGD", "ADMM")
    sentence = verdict.judge(
        {label: words[c] for label, c in zip(labels, methods, strict=False)},
        {label: words[c] for label, c in zip(labels, networks, strict=False)},
    )
    assert sentence.startswith(expected)


def test_the_sentence_names_who_needs_what():
    sentence = verdict.judge(
        {"HB": FEWER, "AGD": FEWER, "AGD2": FEWER, "ADMM": MORE},
        {"HB": FEWER, "AGD": FEWER, "AGD2": SAME, "ADMM": MORE},
    )
    assert sentence == (
        "supported: 3 method(s) need fewer iterations than GD with the true W; once "
        "trained, HB and AGD need fewer layers than GD; for AGD2 no difference is found"
    )


@pytest.mark.parametrize(
    ("better", "expected"), [(7, "better"), (6, "no more than chance")]
)
def test_a_verdict_that_other_tests_leave_open_is_not_out_of_reach(better, expected):
    """Holm multiplies by the tests that are left: seven seeds suffice as one of 3."""

    def found(n, better):
        ours = {seed: -1.0 if seed < better else 0.1 for seed in range(n)}
        return {}, compare(ours, dict.fromkeys(range(n), 0.0))

    rows = verdict.together([found(8, 8), found(7, better), found(8, 1), found(8, 1)])
    assert rows[1]["verdict"] == expected
    # Beside tests that find nothing it is one of 4.
    beside = [({}, compare({0: 1.0}, {0: 0.0}))] * 3
    alone = verdict.together([found(7, better), *beside])[0]
    assert alone["verdict"] == "cannot tell with n = 7 and 4 tests, 8 seeds could"


def test_tests_with_other_numbers_of_seeds_take_nothing_from_a_p_value():
    """As in a table that is half run: Holm's p is what counts, not the least of all."""

    def apart(n):
        return {}, compare(dict.fromkeys(range(n), 1.0), dict.fromkeys(range(n), 2.0))

    many, few = verdict.together([apart(10), apart(6)])
    assert many["verdict"] == few["verdict"] == "better"
    assert few["p_corrected"] == 2 / 2**6
