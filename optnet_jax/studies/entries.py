"""Which runs make up Tables 4 and 5, and their like on digits and Fashion-MNIST."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Row:
    """A network of a table.

    Attributes:
        label: As printed.
        network: Name in ``networks.NETWORKS``.
        config: Name of its config, ``configs/<config>.py``.
        arguments: Of the config, such as ``depth=40``; may be empty.
        baseline: Label of the row that this one is compared with, if any.
    """

    label: str
    network: str
    config: str
    arguments: str = ""
    baseline: str = ""


@dataclasses.dataclass(frozen=True)
class Column:
    """A dataset of a table.

    Attributes:
        label: As printed; "+" in Table 4: with the standard augmentation.
        arguments: Of every row's config.
        value: Of ``Table.against``, if the columns differ in it.
    """

    label: str
    arguments: str = ""
    value: float | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a table: all runs of it differ in their seed only.

    Attributes:
        row: Its network.
        column: Its dataset.
        paper: The paper's top-1 error (%) and, where it is printed, top-5; or nothing.
    """

    row: Row
    column: Column
    paper: tuple[float, ...] = ()

    def config_flag(self, seed: int) -> str:
        """Return the value of ``--config`` for one run."""
        given = (self.column.arguments, self.row.arguments, f"seed={seed}")
        return f"configs/{self.row.config}.py:{','.join(filter(None, given))}"

    def get_config(self, seed: int) -> Any:
        """Return the config of one run."""
        module = importlib.import_module(f"optnet_jax.configs.{self.row.config}")
        return module.get_config(self.config_flag(seed).partition(":")[2])


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: On the command line.
        title: As printed.
        rows: Networks.
        columns: Datasets.
        seeds: That are run unless others are asked for.
        top5: Whether the top-5 error is printed too.
        against: What the columns differ in, if it is a quantity: they are drawn as
            one curve then.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...] = (0,)
    top5: bool = False
    against: str = ""

    def entries(self) -> Iterator[Entry]:
        """All entries, row by row."""
        width = 2 if self.top5 else 1
        for row in self.rows:
            printed = PAPER.get(row.network, ())
            for place, column in enumerate(self.columns):
                yield Entry(row, column, printed[width * place : width * (place + 1)])


PAPER = {
    "resnet56": (10.05, 39.65, 5.32, 26.03),
    "hb_net56": (10.17, 38.52, 5.46, 26.00),
    "resnet110": (9.17, 38.13, 5.06, 24.71),
    "hb_net110": (8.66, 36.40, 5.04, 23.93),
    "densenet40": (7.00, 27.55, 5.24, 24.42),
    "agd_net40": (6.44, 26.33, 5.20, 24.87),
    "densenet52": (6.05, 26.30, 5.09, 24.33),
    "agd_net52": (5.75, 24.92, 4.94, 23.84),
    "resnet34": (26.73, 8.74),
    "hb_net34": (26.33, 8.56),
    "densenet121": (25.02, 7.71),
    "agd_net121": (24.62, 7.39),
}
"""Errors (%) of the paper's Tables 4 and 5, a row as it is printed."""

BORROWED = {"densenet40": "Huang et al. 2017, Table 2"}
"""From where the paper has what its authors did not run: "*" in its Table 4."""

NO_RELU = "ResNet, no ReLU after the sum"

DIGITS = Table(
    name="digits",
    title="Table 4 on scikit-learn's digits: top-1 error (%) at matched parameters",
    rows=(
        Row("ResNet", "resnet", "digits_resnet"),
        # As HB-Net, which differs from it in β₂ alone then.
        Row(NO_RELU, "resnet", "digits_resnet", "relu=False", "ResNet"),
        Row("HB-Net (16)", "hb_net", "digits_hb", baseline=NO_RELU),
        Row("DenseNet", "densenet", "digits_densenet"),
        Row("AGD-Net (21)", "agd_net", "digits_agd", baseline="DenseNet"),
    ),
    columns=(Column("digits"),),
    seeds=tuple(range(10)),
)

DIGITS_DEPTH = Table(
    name="digits_depth",
    title="Digits against depth: top-1 error (%), 42,000 parameters at every depth",
    rows=tuple(
        Row(label, network, "digits_depth", f"structure={structure}", baseline)
        for label, network, structure, baseline in (
            ("Plain (7)", "plain", "plain", ""),
            ("ResNet (16)", "resnet", "resnet", "Plain (7)"),
            ("HB-Net (16)", "hb_net", "hb", "Plain (7)"),
            ("Nesterov net (17)", "nesterov_net", "nesterov", "Plain (7)"),
            ("AGD-Net (18)", "agd_net", "agd", "Plain (7)"),
            ("DMRNet (20)", "dmr_net", "dmr", "Plain (7)"),
        )
    ),
    columns=tuple(
        Column(f"{depth} layers", f"depth={depth}", depth) for depth in (6, 14, 26)
    ),
    seeds=tuple(range(10)),
    against="weight layers",
)

FASHION = Table(
    name="fashion",
    title="Table 4 on Fashion-MNIST: top-1 error (%) at 0.27 million parameters",
    rows=(
        Row("ResNet", "resnet20", "fashion_resnet"),
        Row(NO_RELU, "resnet20", "fashion_resnet", "relu=False", "ResNet"),
        Row("HB-Net (16)", "hb_net20", "fashion_hb", baseline=NO_RELU),
        Row("DenseNet", "densenet", "fashion_densenet"),
        Row("AGD-Net (21)", "agd_net", "fashion_agd", baseline="DenseNet"),
        Row("AGD-Net, β = 0", "agd_net", "fashion_agd", "beta=0.0", "DenseNet"),
        Row("AGD-Net, α = 1", "agd_net", "fashion_agd", "learned=False", "DenseNet"),
    ),
    columns=(Column("Fashion-MNIST"),),
    seeds=tuple(range(8)),
)

TABLE_4 = Table(
    name="table4",
    title="Table 4: top-1 error (%) on CIFAR (+: with augmentation)",
    rows=(
        Row("ResNet (n = 9)", "resnet56", "cifar_resnet", "depth=56"),
        Row("HB-Net (n = 9)", "hb_net56", "cifar_hb", "depth=56", "ResNet (n = 9)"),
        Row("ResNet (n = 18)", "resnet110", "cifar_resnet", "depth=110"),
        Row("HB-Net (n = 18)", "hb_net110", "cifar_hb", "depth=110", "ResNet (n = 18)"),
        Row("DenseNet (L = 40)", "densenet40", "cifar_densenet", "depth=40"),
        Row(
            "AGD-Net (L = 40)",
            "agd_net40",
            "cifar_agd",
            "depth=40",
            "DenseNet (L = 40)",
        ),
        Row("DenseNet (L = 52)", "densenet52", "cifar_densenet", "depth=52"),
        Row(
            "AGD-Net (L = 52)",
            "agd_net52",
            "cifar_agd",
            "depth=52",
            "DenseNet (L = 52)",
        ),
    ),
    columns=(
        Column("C10", "dataset=cifar10,augment=False"),
        Column("C100", "dataset=cifar100,augment=False"),
        Column("C10+", "dataset=cifar10,augment=True"),
        Column("C100+", "dataset=cifar100,augment=True"),
    ),
)

TABLE_5 = Table(
    name="table5",
    title="Table 5: top-1 and top-5 error (%) on ImageNet, single crop",
    rows=(
        Row("ResNet-34", "resnet34", "imagenet_resnet"),
        Row("HB-Net-34", "hb_net34", "imagenet_hb", baseline="ResNet-34"),
        Row("DenseNet-121", "densenet121", "imagenet_densenet"),
        Row("AGD-Net-121", "agd_net121", "imagenet_agd", baseline="DenseNet-121"),
    ),
    columns=(Column("ImageNet", "augment=True"),),
    top5=True,
)


def _vision(name: str, title: str, column: Column, wider: int) -> Table:
    """Return the methods of a transformer at one size, and its control by width."""
    plain = "Transformer (16): 1, 0"
    methods = (
        ("Heavy ball (11)", "vit", "hb"),
        ("Nesterov (12)", "vit", "nesterov"),
        ("YuriiFormer, learned", "yurii_vit", "yurii"),
        ("Triple momentum, learned", "yurii_vit", "triple"),
    )
    rows = (
        Row(plain, "vit", name),
        Row("Transformer, wider", "vit", name, f"width={wider}", plain),
        *(
            Row(label, network, name, f"method={method}", plain)
            for label, network, method in methods
        ),
    )
    # Eight: with fewer no p-value is below 5 % after the correction for five tests.
    return Table(name, title, rows, (column,), tuple(range(8)))


DIGITS_VIT = _vision(
    "digits_vit",
    "Vision transformers on digits: top-1 error (%) at 40,000 parameters; "
    "wider: 52,000",
    Column("digits"),
    32,
)
FASHION_VIT = _vision(
    "fashion_vit",
    "Vision transformers on Fashion-MNIST: top-1 error (%) at 0.27 million parameters; "
    "wider: 0.34",
    Column("Fashion-MNIST"),
    68,
)

TABLES = {
    table.name: table
    for table in (
        DIGITS,
        FASHION,
        TABLE_4,
        TABLE_5,
        DIGITS_DEPTH,
        DIGITS_VIT,
        FASHION_VIT,
    )
}
