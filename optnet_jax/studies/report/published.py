"""Errors that others have published, as data: what our own are put beside."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """One published error.

    Attributes:
        network: Name in ``networks.NETWORKS``.
        dataset: TFDS name.
        augment: With the standard augmentation ("+" in Table 4).
        top1_error: In percent.
        top5_error: In percent, where it is given.
        source: Who published it.
    """

    network: str
    dataset: str
    augment: bool
    top1_error: float
    top5_error: float | None
    source: str


CIFAR_COLUMNS = (
    ("cifar10", False),
    ("cifar100", False),
    ("cifar10", True),
    ("cifar100", True),
)

_TABLE_4 = {
    "resnet56": (10.05, 39.65, 5.32, 26.03),
    "hb_net56": (10.17, 38.52, 5.46, 26.00),
    "resnet110": (9.17, 38.13, 5.06, 24.71),
    "hb_net110": (8.66, 36.40, 5.04, 23.93),
    "densenet40": (7.00, 27.55, 5.24, 24.42),
    "agd_net40": (6.44, 26.33, 5.20, 24.87),
    "densenet52": (6.05, 26.30, 5.09, 24.33),
    "agd_net52": (5.75, 24.92, 4.94, 23.84),
}

_TABLE_5 = {
    "resnet34": (26.73, 8.74),
    "hb_net34": (26.33, 8.56),
    "densenet121": (25.02, 7.71),
    "agd_net121": (24.62, 7.39),
}

# DenseNet-40's row was not run by the authors of the paper: "*" in its Table 4.
_DENSENET_AUTHORS = "Huang et al. 2017, Table 2"

TABLE_4 = tuple(
    Published(
        network,
        dataset,
        augment,
        error,
        None,
        "Table 4"
        if network != "densenet40"
        else f"Table 4, taken from {_DENSENET_AUTHORS}",
    )
    for network, errors in _TABLE_4.items()
    for (dataset, augment), error in zip(CIFAR_COLUMNS, errors, strict=True)
)
"""Table 4 of the paper: 8 networks on CIFAR, without and with augmentation."""

TABLE_5 = tuple(
    Published(network, "imagenet2012", True, top1_error, top5_error, "Table 5")
    for network, (top1_error, top5_error) in _TABLE_5.items()
)
"""Table 5 of the paper: 4 networks on ImageNet, single crop."""

OTHERS = (
    # Best of five runs; their mean is 6.61.
    Published("resnet110", "cifar10", True, 6.43, None, "He et al. 2016, Table 6"),
    Published("dmr_net56", "cifar10", True, 4.94, None, "Zhao et al. 2018, DFN-MR1"),
    Published("dmr_net56", "cifar100", True, 24.46, None, "Zhao et al. 2018, DFN-MR1"),
    # The ResNet-34 of Table 5 to the digit, which was trained with scale and colour
    # augmentation beyond what §7.1 says.
    Published("resnet34", "imagenet2012", True, 26.73, 8.74, "fb.resnet.torch"),
    Published("resnet34", "imagenet2012", True, 26.69, 8.58, "torchvision"),
    Published("densenet121", "imagenet2012", True, 25.57, 8.03, "torchvision"),
)
"""Errors of the same networks from elsewhere."""


def in_paper(network: str, dataset: str, augment: bool) -> Published | None:
    """Look up an error in Tables 4 and 5.

    >>> in_paper("agd_net40", "cifar10", False).top1_error
    6.44
    >>> in_paper("agd_net40", "optnet_digits", True) is None
    True
    """
    for entry in TABLE_4 + TABLE_5:
        if (entry.network, entry.dataset, entry.augment) == (network, dataset, augment):
            return entry
    return None
