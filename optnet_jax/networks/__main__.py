"""List the networks, and those that come trained: ``python -m optnet_jax.networks``."""

from collections.abc import Sequence

from optnet_jax.networks.registry import NETWORKS
from optnet_jax.runs import program


def main(argv: Sequence[str] | None = None) -> None:
    """Print the names that ``create`` takes, then those that ``load_run`` takes."""
    program.Parser(
        "python -m optnet_jax.networks", description="List the networks."
    ).parse_args(argv)
    from optnet_jax.inference import released

    print("networks, for optnet_jax.networks.create(NAME, ...):")
    for name in NETWORKS:
        print(f"  {name}")
    print("trained, for optnet_jax.load_run(NAME):")
    for name, card in released().items():
        print(
            f"  {name:16} {card['dataset']['name']}, top-1 error "
            f"{card['final']['top1_error']:.2f} %, {card['parameters']:,} parameters"
        )


if __name__ == "__main__":
    with program.edge():
        main()
