"""List the data sets: ``python -m optnet_jax.data``."""

from collections.abc import Sequence

from optnet_jax.data.spec import FOLDER, SPECS
from optnet_jax.runs import program


def main(argv: Sequence[str] | None = None) -> None:
    """Print name, classes and image of each set, and where its images come from."""
    program.Parser(
        "python -m optnet_jax.data", description="List the data sets."
    ).parse_args(argv)
    for spec in SPECS.values():
        shape = " x ".join(map(str, spec.image_shape))
        kept = "streamed from disk" if spec.streamed else "held in memory"
        origin = "archives that you fetch" if spec.manual else "downloaded by TFDS"
        print(
            f"{spec.name:14} {spec.num_classes:4} classes  {shape:14}  {kept}, "
            f"{'in the package' if spec.module else origin}"
        )
    print(f"{FOLDER:14} pictures of your own, in a folder for each class")


if __name__ == "__main__":
    with program.edge():
        main()
