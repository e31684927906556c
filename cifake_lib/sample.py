"""Draw the embedded sample `data/sample.zip` from CIFAKE's training split.

    python -m cifake_lib.sample path/to/cifake

The same images give the same bytes. Test images come from the part that the split of
`cifake_lib.splits` holds out of the training split, training images from the rest, so that a model
trained at full scale has never seen the sample's test images.
"""

import argparse
import zipfile
from pathlib import Path

import pandas as pd

from cifake_lib import data, paths
from cifake_lib.splits import bucket

# Images of each split; each is shared evenly over 2 classes × 10 object classes.
SIZES = {"train": 3_750, "validation": 250, "test": 1_000}


def draw_sample(table: pd.DataFrame) -> pd.DataFrame:
    """Draw the sample's rows from a split table of CIFAKE's training split.

    Args:
        table: `Dataset.table`.

    Returns:
        Rows without exact copies, with the column `archive_path` in the layout of the Kaggle
        download (validation images lie in `train`, as a download's do before it is split).
    """
    table = table.drop_duplicates("content_hash")
    # Another seed than the split's: its buckets would pick the images next to the boundaries.
    table = table.assign(position=[bucket(value, seed=1) for value in table["content_hash"]])
    drawn = []
    for split, size in SIZES.items():
        cells = table[table["split"] == split].sort_values("position")
        cells = [cell for _, cell in cells.groupby(["label", "object_class"])]
        # 250 over 20 cells leaves halves: every other cell gets one image more.
        counts = [size * (i + 1) // len(cells) - size * i // len(cells) for i in range(len(cells))]
        drawn += [cell.head(count) for cell, count in zip(cells, counts, strict=True)]
    sample = pd.concat(drawn)
    folder = sample["split"].map({"train": "train", "validation": "train", "test": "test"})
    label = sample["label"].map(dict(enumerate(data.CLASS_NAMES)))
    names = sample["path"].map(lambda path: Path(path).name)
    return sample.assign(archive_path=folder + "/" + label + "/" + names)


def write_sample(dataset: data.Dataset, target: Path) -> None:
    """Write the drawn images into a zip whose bytes depend on the images alone."""
    sample = draw_sample(dataset.table).sort_values("archive_path")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for row in sample.itertuples():
            content = (dataset.folder / row.path).read_bytes()
            archive.writestr(zipfile.ZipInfo(row.archive_path), content)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Draw data/sample.zip from CIFAKE's training split."
    )
    parser.add_argument("source", help="folder, zip or tar that holds train/REAL and train/FAKE")
    parser.add_argument("--output", type=Path, default=paths.data_dir() / "sample.zip")
    options = parser.parse_args()
    write_sample(data.load_dataset(options.source), options.output)
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
