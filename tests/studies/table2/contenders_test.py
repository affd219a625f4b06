import pytest

from optnet_jax.errors import InputError
from optnet_jax.recurrences import HeavyBall
from optnet_jax.studies.table2.contenders import PAPER, contender, contenders


def test_every_column_of_the_paper_has_a_contender_and_every_depth():
    assert {c.column for c in contenders().values()} - {None} == set(PAPER)
    assert all(list(column) == [10, 20, 30, 40] for column in PAPER.values())


def test_labels_are_distinct():
    assert len({c.label for c in contenders().values()}) == len(contenders())


def test_heavy_ball_gets_its_beta():
    assert contender("hb").make(0.4) == HeavyBall(0.4, -0.4)


def test_an_unknown_structure_is_one_line():
    with pytest.raises(InputError, match=r"'sgd'.*use some of admm_shared") as caught:
        contender("sgd")
    assert "\n" not in str(caught.value)
