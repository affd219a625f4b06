import collections

import pytest

from optnet_jax import networks
from optnet_jax.data import spec
from optnet_jax.studies.report import published


def error(network, dataset, augment):
    return published.in_paper(network, dataset, augment).top1_error


def test_every_entry_names_a_network_and_a_dataset_of_this_project():
    for entry in published.TABLE_4 + published.TABLE_5 + published.OTHERS:
        assert entry.network in networks.NETWORKS
        assert entry.dataset in spec.SPECS


def test_column_sums_of_the_printed_tables():
    """Added up from the printed page: a slip of the pen in one entry shows here."""
    sums = collections.Counter()
    for entry in published.TABLE_4:
        sums[entry.dataset, entry.augment] += round(100 * entry.top1_error)
    assert sums == {
        ("cifar10", False): 6329,
        ("cifar100", False): 25780,
        ("cifar10", True): 4135,
        ("cifar100", True): 19813,
    }
    assert round(sum(100 * e.top1_error for e in published.TABLE_5)) == 10270
    assert round(sum(100 * e.top5_error for e in published.TABLE_5)) == 3240


@pytest.mark.parametrize(
    ("method", "baseline", "worse_on"),
    [
        # §7.2 says that the first is better; the table has two exceptions.
        ("hb_net56", "resnet56", {("cifar10", False), ("cifar10", True)}),
        ("hb_net110", "resnet110", set()),
        ("agd_net40", "densenet40", {("cifar100", True)}),
        ("agd_net52", "densenet52", set()),
    ],
)
def test_who_is_better_where(method, baseline, worse_on):
    worse = {
        column
        for column in published.CIFAR_COLUMNS
        if error(method, *column) > error(baseline, *column)
    }
    assert worse == worse_on


def test_resnet_34_of_table_5_is_the_torch_value():
    ours = published.in_paper("resnet34", "imagenet2012", True)
    torch = next(e for e in published.OTHERS if e.source == "fb.resnet.torch")
    assert (torch.top1_error, torch.top5_error) == (ours.top1_error, ours.top5_error)


def test_only_densenet_40_was_not_run_by_the_authors():
    borrowed = {e.network for e in published.TABLE_4 if e.source != "Table 4"}
    assert borrowed == {"densenet40"}
