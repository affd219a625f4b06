"""A table of training runs with seeds, beside the paper's numbers.

    python -m optnet_jax.main --config=configs/tables.py:digits
    python -m optnet_jax.main --config=configs/tables.py:table4,seeds=0-2

The runs are in ``<workdir>/runs``; what is finished is skipped, and the same command
goes on. ``--mode=summary`` prints the commands that are left, to run them elsewhere;
``--mode=eval`` reports on what has finished by then, the rest being "not run".
``--config.overrides=data.data_dir=/shared/tfds,onednn=False`` is given to every run.

Arguments: the table, digits, fashion, table4, table5, digits_depth, digits_vit or
fashion_vit; seeds=0-9 (others by ``--config.seeds=0,3,5``), the table's own if not.
"""

import re

from ml_collections import ConfigDict
from optnet_jax.configs import recipes

from optnet_jax.errors import InputError
from optnet_jax.studies import entries


def get_config(args: str = "") -> ConfigDict:
    """Return the config; see above for ``args``."""
    name, _, rest = args.removeprefix("table=").partition(",")
    table = recipes.choose("table", name or "digits", entries.TABLES)
    seeds = recipes.parse(rest, {"seeds": ""})["seeds"]
    ends = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", seeds)
    if seeds and not ends:
        raise InputError(
            f"config argument seeds={seeds}: write seeds=3 or seeds=0-9; others are "
            "set by --config.seeds=0,3,5"
        )
    config = recipes.study("tables", "")
    # The same with other seeds, which are more runs of the same table.
    config.name = table.name if table.name[:5] == "table" else f"{table.name}_table"
    config.table = table.name
    config.seeds = table.seeds
    if ends:
        config.seeds = tuple(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    config.overrides = ()
    # Runs at once, on a CPU with cores for each.
    config.parallel_cells = 1
    return config
