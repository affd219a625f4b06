"""List the configs: ``python -m optnet_jax.configs``."""

import ast
from collections.abc import Sequence

from optnet_jax.configuration import packaged_configs
from optnet_jax.runs import program


def main(argv: Sequence[str] | None = None) -> None:
    """Print the name of each config, which ``--config=`` takes, and what it is."""
    program.Parser(
        "python -m optnet_jax.configs", description="List the configs."
    ).parse_args(argv)
    for name, file in packaged_configs().items():
        text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        print(f"{name.removesuffix('.py'):18} {text.partition(chr(10))[0]}")


if __name__ == "__main__":
    with program.edge():
        main()
