r"""Prepares a dataset from an archive that lies on this machine.

    python -m optnet_jax.data.prepare --dataset=cifar10 \
        --archive=/path/cifar-10-binary.tar.gz --data_dir=/path/data
    python -m optnet_jax.data.prepare --dataset=imagenet2012 \
        --archive=/path/ILSVRC2012_img_train.tar \
        --archive=/path/ILSVRC2012_img_val.tar

TFDS's own builder does the work, once sizes and checksums are verified. ``--archive``
may also be a folder that holds all archives of a set, such as Debian's
``/usr/share/datasets/fashion-mnist``. The file of a set that consists of one archive
may have any name. Without ``--archive``, a set is
downloaded, if it can be.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from optnet_jax.configuration import local_path
from optnet_jax.data import source
from optnet_jax.data.archives import archives_of, is_there, listed
from optnet_jax.data.spec import SPECS, Spec, get_spec
from optnet_jax.errors import InputError
from optnet_jax.runs import files, program


def prepare(dataset: str, archives: Sequence[str], data_dir: str) -> str:
    """Prepare a dataset from local archives.

    Args:
        dataset: its name.
        archives: paths of its archives; none to download them.
        data_dir: where it goes; empty for TFDS's default.

    Returns:
        One line that says what is there now.

    Raises:
        InputError: if the archives are not those of the dataset.
    """
    spec = get_spec(dataset)
    data_dir = data_dir and str(local_path(data_dir, "--data_dir"))
    if not archives:
        builder = source.prepared_builder(spec, data_dir)
    else:
        with tempfile.TemporaryDirectory() as manual_dir:
            _link(spec, data_dir, archives, Path(manual_dir))
            builder = source.prepared_builder(spec, data_dir, manual_dir)
    sizes = ", ".join(
        f"{name} {builder.info.splits[name].num_examples}"
        for name in ("train", spec.eval_split)
    )
    return f"{spec.name} {builder.version} is in {builder.data_dir}: {sizes}"


def _link(spec: Spec, data_dir: str, archives: Sequence[str], manual_dir: Path) -> None:
    """Link the archives under the names by which TFDS looks for them."""
    wanted = archives_of(source.find_builder(spec, data_dir))
    if not wanted:
        raise InputError(f"{spec.name} needs no archive; leave out --archive")
    for archive in _files(archives, wanted):
        if not is_there(archive):
            raise InputError(f"there is no file {archive}; see --archive")
        name = archive.name if len(wanted) > 1 else next(iter(wanted))
        if name not in wanted:
            raise InputError(
                f"{archive} is not an archive of {spec.name}, which are called "
                f"{' and '.join(wanted)}; rename it if it is one of them"
            )
        if (manual_dir / name).exists():
            raise InputError(f"{name} is given twice; give each --archive once")
        (manual_dir / name).symlink_to(archive.resolve())
    missing = {n: a for n, a in wanted.items() if not (manual_dir / n).exists()}
    if missing:
        raise InputError(f"{spec.name} needs {listed(missing)}, too; see --archive")


def _files(archives: Sequence[str], wanted: Iterable[str]) -> Iterator[Path]:
    """Yield the archives that are given; of a folder, those in it that are wanted."""
    for archive in (local_path(archive, "--archive") for archive in archives):
        inside = [archive / name for name in wanted if files.exists(archive / name)]
        if not inside and files.is_folder(archive):
            raise InputError(
                f"{archive} is a folder: the archive itself must be given, or be "
                f"in it, packed, as {' and '.join(wanted)}"
            )
        yield from inside or [archive]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    assert __doc__
    usage, _, details = __doc__.partition("\n\n")
    parser = program.Parser(
        prog="python -m optnet_jax.data.prepare",
        description=usage,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True, help=" | ".join(SPECS))
    parser.add_argument(
        "--archive", action="append", default=[], help="repeat it for several files"
    )
    # Also by the name that training gives it, which messages of both advise.
    names = ("--data_dir", "--config.data.data_dir")
    parser.add_argument(*names, default="", help="default: TFDS's own")
    flags = parser.parse_args(argv)
    print(prepare(flags.dataset, flags.archive, flags.data_dir))


if __name__ == "__main__":
    with program.edge():
        main()
