import collections
import itertools

import jax
import pytest

from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.studies import comparison, entries
from optnet_jax.training import experiment

ENTRIES = [
    pytest.param(entry, id=f"{table.name}-{entry.row.network}-{entry.column.label}")
    for table in entries.TABLES.values()
    for entry in table.entries()
]
DATASETS = {
    "C10": "cifar10",
    "C100": "cifar100",
    "ImageNet": "imagenet2012",
    "Fashion-MNIST": "fashion_mnist",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_config_is_what_the_entry_says(entry):
    config, column = entry.get_config(3), entry.column.label
    assert config.model.name == entry.row.network
    assert config.data.dataset == DATASETS.get(column.rstrip("+"), "optnet_digits")
    if config.data.dataset.startswith("cifar"):
        assert config.data.augment == column.endswith("+")
    assert config.seed == 3


def test_column_sums_of_the_papers_tables():
    """Added up from the printed page: a slip of the pen in one entry shows here."""
    sums = collections.defaultdict(list)
    for table in entries.TABLES.values():
        for entry in table.entries():
            for place, error in enumerate(entry.paper):
                sums[entry.column.label, place].append(error)
    assert {column: round(sum(errors), 2) for column, errors in sums.items()} == {
        ("C10", 0): 63.29,
        ("C100", 0): 257.80,
        ("C10+", 0): 41.35,
        ("C100+", 0): 198.13,
        ("ImageNet", 0): 102.70,
        ("ImageNet", 1): 32.40,
    }


@pytest.mark.parametrize("table", entries.TABLES.values(), ids=lambda table: table.name)
def test_a_table_of_many_seeds_has_enough_for_a_verdict(table):
    """With too few the corrected p-value is above 5 % whatever the errors are."""
    tests = sum(bool(entry.row.baseline) for entry in table.entries())
    least = comparison.compare(
        dict.fromkeys(table.seeds, 0.0), dict.fromkeys(table.seeds, 1.0)
    )
    if len(table.seeds) > 1:
        p_value = tests * least["p_value"]
        assert comparison.verdict(least, p_value, p_value, tests) == "better"
    else:  # the paper's own, which are printed beside its single numbers
        assert table.name in ("table4", "table5")


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
        entry.get_config(seed).name
        for table in entries.TABLES.values()
        for entry, seed in itertools.product(table.entries(), (0, 1))
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
            as_json(entries.Entry(r, column).get_config(0)) for r in (row, baseline)
        )
        for fields in (ours, theirs):
            del fields["model"], fields["name"]
        assert ours == theirs


def parameters(entry):
    config = entry.get_config(0)
    module = experiment.create_network(TrainConfig.of(config), 10)
    shapes = jax.eval_shape(
        lambda key, images: module.init(key, images, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 8, 8, 1), "float32"),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_the_networks_of_every_depth_have_42_000_parameters():
    counts = [parameters(entry) for entry in entries.DIGITS_DEPTH.entries()]
    assert all(abs(count / 42_000 - 1) < 0.02 for count in counts)


def test_the_digits_networks_have_matched_parameters():
    counts = {
        entry.row.network: parameters(entry) for entry in entries.DIGITS.entries()
    }
    assert counts["hb_net"] == counts["resnet"]
    # α^j_{k+1}, 1 + 2 + 3 + 4 of them in each of two stages.
    assert counts["agd_net"] - counts["densenet"] == 20
    assert max(counts.values()) < 1.05 * min(counts.values())


def test_a_transformers_methods_have_matched_parameters_and_a_wider_control():
    plain, wider, *methods = (
        parameters(entry) for entry in entries.DIGITS_VIT.entries()
    )
    # A method adds its learned coefficients: three or four for each of eight steps.
    assert [count - plain for count in methods] == [0, 0, 24, 32]
    assert wider > 1.25 * plain
