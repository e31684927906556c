"""The audit of a data set, against images whose copies, encoders and spectra are known."""

import numpy as np
import pandas as pd
import pytest
from made_up import smooth_pictures
from PIL import Image

from cifake_lib import audit, data, spectrum, splits


@pytest.fixture
def dataset(tmp_path):
    """Sixty JPEG files: REAL of quality 75, FAKE of 90, one pair of copies."""
    images = smooth_pictures(60)
    rows = []
    for index, image in enumerate(images):
        label = index % 2
        name = f"{data.CLASS_NAMES[label]}-{index:02d}.jpg"
        image = images[0] if index == 2 else image
        Image.fromarray(image).save(tmp_path / name, quality=(75, 90)[label])
        rows.append(
            {"path": name, "label": label, "content_hash": f"{0 if index == 2 else index:064x}"}
        )
    table = pd.DataFrame(rows).assign(object_class="", crosses_split=False)
    table["split"] = ["train", "train", "validation", "validation"] * 15
    return data.Dataset("made", tmp_path, table, table[:0], splits.split_hash(table))


def test_encoder_that_gives_the_class_away_is_found(dataset):
    read = audit.encoders(dataset)
    assert set(read["format"]) == {"JPEG"} and set(read["size"]) == {"32×32"}
    assert set(read["subsampling"]) == {"4:2:0"}
    assert read.groupby(dataset.table["label"])["quantisation"].nunique().tolist() == [1, 1]
    assert read["quantisation"].nunique() == 2
    assert audit.shortcut(read[["quantisation"]], dataset)["accuracy"] == 1
    blind = audit.shortcut(read[["format", "size"]], dataset)
    assert blind["roc_auc"] == 0.5


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "WEBP", "TIFF", "GIF"])
def test_every_format_that_is_decoded_has_its_encoder_read(dataset, kind):
    if kind == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif")
        picture = pillow_heif.from_pillow(Image.fromarray(smooth_pictures(1, size=64)[0]))
        picture.save(dataset.folder / "REAL-00.jpg", quality=80)
    else:
        Image.fromarray(smooth_pictures(1, size=64)[0]).save(dataset.folder / "REAL-00.jpg", kind)
    read = audit.encoders(dataset, np.array([0, 1]))
    assert read["format"].tolist() == [kind, "JPEG"]
    assert read["size"].tolist() == ["64×64", "32×32"]


def test_the_largest_side_is_that_of_the_files(dataset):
    Image.fromarray(smooth_pictures(1)[0]).resize((40, 90)).save(dataset.folder / "REAL-00.jpg")
    assert audit.largest_side(dataset, np.array([0])) == 90
    assert audit.largest_side(dataset, np.array([1, 3])) == 32


def test_a_fact_with_thousands_of_values_makes_no_thousands_of_columns(dataset):
    read = pd.DataFrame({"size": [f"{index}×{index}" for index in range(60)]})
    read.loc[:4, "size"] = "32×32"
    assert audit.shortcut(read, dataset)["features"] == audit.COMMONEST + 1


def test_a_part_of_the_images_is_measured_by_its_rows(dataset):
    rows = audit.rows_to_measure(dataset, 40, seed=1)
    assert len(rows) == 40 and (np.diff(rows) > 0).all()
    assert audit.rows_to_measure(dataset, 0).tolist() == list(range(60))
    images = smooth_pictures(60)
    colours = audit.colour_statistics(images, rows)
    pd.testing.assert_frame_equal(colours, audit.colour_statistics(images).loc[rows])
    profiles = spectrum.radial_profiles(images, rows)
    pd.testing.assert_frame_equal(profiles, spectrum.radial_profiles(images).loc[rows])
    cheat = colours.assign(cheat=dataset.table["label"])
    assert audit.shortcut(cheat, dataset)["accuracy"] == 1
    np.testing.assert_allclose(audit.mean_colour(images, rows), images[rows].mean(axis=(0, 1, 2)))


def test_colour_statistics_of_known_images():
    black, red = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    red[:, :, ::2, 0] = 100
    read = audit.colour_statistics(np.concatenate([black, red]))
    assert read.shape == (2, 12) and read.loc[0].eq(0).all()
    assert read.loc[1, ["red_mean", "red_deviation", "green_mean"]].tolist() == [150, 50, 0]
    assert read.loc[1, "saturation_mean"] == 150
    assert read.loc[1, "contrast_mean"] == pytest.approx(29.9, abs=1e-4)


def test_spectrum_peaks_at_the_frequency_of_a_grating():
    columns = 128 + 100 * np.cos(2 * np.pi * np.arange(32) * 8 / 32)
    image = np.broadcast_to(columns[None, None, :, None], (1, 32, 32, 3)).astype(np.uint8)
    power = spectrum.mean_spectrum(image)
    row, column = np.unravel_index(power.argmax(), power.shape)
    assert row == 16 and abs(column - 16) == 8  # A quarter of a cycle per pixel, across.
    assert spectrum.radial_profiles(image).iloc[0].idxmax() == "ring_8"  # Of 16 up to half a cycle.


def test_flat_image_has_no_power():
    assert spectrum.mean_spectrum(np.full((1, 32, 32, 3), 90, np.uint8)).max() < 1e-3


def test_mean_spectrum_and_profiles_do_not_depend_on_the_parts():
    images = smooth_pictures(5)
    power, profiles = spectrum.mean_spectrum(images), spectrum.radial_profiles(images)
    one_by_one = [spectrum.mean_spectrum(image[np.newaxis]) for image in images]
    np.testing.assert_allclose(power, np.mean(one_by_one, axis=0), rtol=1e-5)
    assert profiles.shape == (5, 16)
    np.testing.assert_allclose(profiles.iloc[[3]], spectrum.radial_profiles(images[[3]]), rtol=1e-5)


def test_shortcut_is_judged_on_images_it_was_not_fitted_on(dataset):
    rng = np.random.default_rng(0)
    noise = pd.DataFrame(rng.normal(size=(60, 3)))
    label = dataset.table["label"].to_numpy()
    memorised = np.where(dataset.rows("train"), label, rng.integers(0, 2, 60))
    assert audit.shortcut(noise.assign(cheat=label), dataset)["accuracy"] == 1
    assert audit.shortcut(noise.assign(cheat=memorised), dataset)["accuracy"] < 0.8
