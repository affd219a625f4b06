import collections
import itertools

import jax
import pytest

from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.studies.report import entries
from optnet_jax.training import experiment

CELLS = [
    pytest.param(table, cell, id=f"{table.name}-{cell.row.network}-{cell.column.label}")
    for table in entries.TABLES.values()
    for cell in table.cells()
]


@pytest.mark.parametrize(("table", "cell"), CELLS)
def test_the_config_is_what_the_entry_says(table, cell):
    config = cell.get_config(3)
    assert config.model.name == cell.row.network
    assert config.data.dataset == cell.column.dataset
    assert config.data.augment == cell.column.augment
    assert config.seed == 3


def test_column_sums_of_the_papers_tables():
    """Added up from the printed page: a slip of the pen in one entry shows here."""
    sums = collections.defaultdict(list)
    for cell in entries.CELLS:
        for place, error in enumerate(cell.paper):
            sums[cell.column.label, place].append(error)
    assert {column: round(sum(errors), 2) for column, errors in sums.items()} == {
        ("C10", 0): 63.29,
        ("C100", 0): 257.80,
        ("C10+", 0): 41.35,
        ("C100+", 0): 198.13,
        ("ImageNet", 0): 102.70,
        ("ImageNet", 1): 32.40,
    }


@pytest.mark.parametrize(
    ("method", "worse_on"),
    [
        # §7.2 says that each is better than its baseline; Table 4 has exceptions.
        ("hb_net56", ["C10", "C10+"]),
        ("hb_net110", []),
        ("agd_net40", ["C100+"]),
        ("agd_net52", []),
    ],
)
def test_who_is_better_where_in_table_4(method, worse_on):
    (row,) = [row for row in entries.TABLE_4.rows if row.network == method]
    (other,) = [o for o in entries.TABLE_4.rows if o.label == row.baseline]
    pairs = zip(entries.PAPER[method], entries.PAPER[other.network], strict=True)
    worse = [ours > theirs for ours, theirs in pairs]
    labels = [column.label for column in entries.TABLE_4.columns]
    assert list(itertools.compress(labels, worse)) == worse_on


def test_runs_have_names_of_their_own():
    names = [
        cell.get_config(seed).name
        for table in entries.TABLES.values()
        for cell, seed in itertools.product(table.cells(), (0, 1))
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("table", entries.TABLES.values(), ids=lambda t: t.name)
def test_a_method_differs_from_its_baseline_in_the_model_only(table):
    rows = {row.label: row for row in table.rows}
    pairs = [(row, rows[row.baseline]) for row in table.rows if row.baseline]
    # Every row is a method or a baseline.
    assert {row.label for pair in pairs for row in pair} == set(rows)
    for column, (row, baseline) in itertools.product(table.columns, pairs):
        ours, theirs = (
            as_json(entries.Cell(r, column).get_config(0)) for r in (row, baseline)
        )
        for fields in (ours, theirs):
            del fields["model"], fields["name"]
        assert ours == theirs


def parameters(cell):
    config = cell.get_config(0)
    module = experiment.create_network(TrainConfig.of(config), 10)
    shapes = jax.eval_shape(
        lambda key, images: module.init(key, images, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 8, 8, 1), "float32"),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_the_networks_of_every_depth_have_42_000_parameters():
    counts = [parameters(cell) for cell in entries.DIGITS_DEPTH.cells()]
    assert all(abs(count / 42_000 - 1) < 0.02 for count in counts)


def test_the_digits_networks_have_matched_parameters():
    counts = {cell.row.network: parameters(cell) for cell in entries.DIGITS.cells()}
    assert counts["hb_net"] == counts["resnet"]
    # α^j_{k+1}, 1 + 2 + 3 + 4 of them in each of two stages.
    assert counts["agd_net"] - counts["densenet"] == 20
    assert max(counts.values()) < 1.05 * min(counts.values())


def test_a_transformers_methods_have_matched_parameters_and_a_wider_control():
    plain, wider, *methods = (parameters(cell) for cell in entries.DIGITS_VIT.cells())
    # A method adds its learned coefficients: three or four for each of eight steps.
    assert [count - plain for count in methods] == [0, 0, 24, 32]
    assert wider > 1.25 * plain


@pytest.mark.parametrize(
    "table",
    [
        entries.DIGITS,
        entries.FASHION,
        entries.DIGITS_DEPTH,
        entries.DIGITS_VIT,
        entries.FASHION_VIT,
    ],
)
def test_enough_seeds_for_the_test_to_be_able_to_tell(table):
    assert 2 / 2 ** len(table.seeds) < 0.05
