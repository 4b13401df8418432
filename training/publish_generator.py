"""Put a trained generator where it ships: its weights into the package, its configuration beside the others.

    python -m training.publish_generator --run runs/dit --vae runs/vae/vae

Prints the files, their size together, and the fingerprints that the model card states.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from magi1.config import MagiConfig
from magi1.errors import MagiError
from magi1.files.checkpoint import LoadedWeights, load_dit, load_vae
from magi1.files.folders import INDEX, find_dit, find_t5, find_vae, weights_subfolder
from magi1.files.located import EMBEDDED
from magi1.text.encoder import load_text_encoder
from wmweights import WeightsError

NAME = "tiny"
CONFIG = f"{NAME}_config.json"
LARGEST_FILE = 15 * 2**20
LARGEST_SUM = 28 * 2**20
"""Bytes; a repository has to carry every version of these files for ever."""


def publish(run: Path, vae: Path, into: Path) -> tuple[list[Path], list[LoadedWeights]]:
    """Copy an export into the package, once it is known to load; returns its files and what they are.

    A failure leaves what was there.

    Args:
        run: Folder of a run of `training.generator`.
        vae: Folder of the autoencoder that ships with it: ``config.json`` and its weights.
        into: Holds the package and the example configurations: ``MAGI-1``.

    Raises:
        WeightsError, MagiError: a part is missing, does not fit the configuration, or is too large.
    """
    config = MagiConfig.load(run / CONFIG)
    home = into / "magi1" / "weights"
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home, prefix=f".{NAME}-") as temporary:
        new = Path(temporary) / NAME
        gather(config, run, vae, new)
        check_sizes(new)
        loaded = [load_dit(config, new / "dit")[1], load_vae(config, new / "vae")[1]]
        load_text_encoder(new / "byte_t5")
        if (home / NAME).exists():
            (home / NAME).rename(Path(temporary) / "old")
        new.rename(home / NAME)
    example = into / "example" / NAME / CONFIG
    example.parent.mkdir(parents=True, exist_ok=True)
    unfinished = example.with_suffix(".tmp")
    packaged(config).save(unfinished)
    unfinished.replace(example)
    return [*files_of(home / NAME), example], loaded


def gather(config: MagiConfig, run: Path, vae: Path, new: Path) -> None:
    """Copy just the files that are loaded, and the index, into folders as the package has them."""
    transformer = find_dit(config, run / "dit")
    parts = {
        f"dit/{weights_subfolder(config)}": (transformer.folder / INDEX, *transformer.files),
        "byte_t5": find_t5(config, run / "byte_t5").files,
        "vae": find_vae(config, vae).files,
    }
    for folder, files in parts.items():
        (new / folder).mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, new / folder / file.name)


def check_sizes(folder: Path) -> None:
    """Refuse weights that are too large to be committed."""
    sizes = {file: file.stat().st_size for file in files_of(folder)}
    for file, size in sizes.items():
        if size > LARGEST_FILE:
            raise WeightsError(
                f"{file.name} has {size} bytes, more than {LARGEST_FILE}; split it (SHARD_BYTES)"
            )
    if (total := sum(sizes.values())) > LARGEST_SUM:
        raise WeightsError(
            f"all files have {total} bytes, more than {LARGEST_SUM}; use the int8 exports"
        )


def packaged(config: MagiConfig) -> MagiConfig:
    """The configuration with the folders of the package."""
    home = f"{EMBEDDED}weights/{NAME}"
    runtime = replace(
        config.runtime_config,
        load=f"{home}/dit",
        t5_pretrained=f"{home}/byte_t5",
        vae_pretrained=f"{home}/vae",
    )
    return replace(config, runtime_config=runtime)


def files_of(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.publish_generator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder of the generator's run")
    add("--vae", type=Path, required=True, help="folder of the autoencoder's weights, int8")
    output = add(
        "--output", "--into", type=Path, default=Path("MAGI-1"), help="default %(default)s"
    )
    output.option_strings = ["--output"]  # what it was called before works, and is not listed
    args = parser.parse_args(argv)
    try:
        files, loaded = publish(args.run, args.vae, args.output)
    except (MagiError, WeightsError) as error:
        parser.exit(1, f"error: {error}\n")
    for file in files:
        print(f"{file.stat().st_size:>10}  {file}")
    print(f"{sum(file.stat().st_size for file in files) / 2**20:.1f} MiB")
    for part in loaded:
        print(f"{part.part}: {part.fingerprint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
