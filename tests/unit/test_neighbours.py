"""The bank of training images, and what the page says of those that a picture is most like."""

import io
import re
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cifake_lib import paths, runs
from cifake_lib.analyst import Analyst
from cifake_lib.neighbours import FILE, SHOWN, Bank, neighbours_html


class Eye:
    """A network that sees a picture in 48 coarse cells."""

    def look(self, images):
        cells = images.reshape(len(images), 4, 8, 4, 8, 3).mean(axis=(2, 4))
        return cells.reshape(len(images), -1).astype(np.float32), None


def scenes(count, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def training():
    images, labels = scenes(40), np.arange(40) // 20
    images[labels == 1, ..., 0] //= 4  # FAKE has little red.
    return images, labels


@pytest.fixture(scope="module")
def bank():
    return Bank.fit(Eye(), *training())


@pytest.fixture
def kept(bank, tmp_path):
    """A run of notebook 06 with a bank, made with the model `one`."""
    bank.save(tmp_path / FILE)
    hashes = {FILE: runs.file_hash(tmp_path / FILE)}
    manifest = {"upstream": {"resnet50": "one"}, "files": hashes}
    return runs.Run("robustness", tmp_path, manifest)


def subject(image, run, model="one"):
    facts = {"run_id": model, "model": {"input_size": 32}}
    own = runs.Run("resnet50", None, facts)
    detector = SimpleNamespace(models={"resnet50": Eye()}, runs={"resnet50": own})
    analyst = Analyst(detector, robustness=run)
    return SimpleNamespace(image=Image.fromarray(image), analyst=analyst)


def shown(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_small_images_are_kept_as_they_are(bank):
    images, labels = training()
    assert bank.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(bank.images, images)


def test_large_images_are_seen_whole_and_kept_as_small_as_they_are_shown(bank):
    class FarSighted(Eye):
        def look(self, images):
            assert images.shape[1:] == (320, 320, 3)
            return super().look(images[:, ::10, ::10])

    images, labels = training()
    large = Bank.fit(FarSighted(), images.repeat(10, axis=1).repeat(10, axis=2), labels)
    assert large.images.shape == (40, SHOWN, SHOWN, 3)
    np.testing.assert_array_equal(large.places, bank.places)


def test_an_image_of_the_bank_is_most_like_itself(bank):
    rows, alike = bank.nearest(Eye(), bank.images[[3, 30]], count=4)
    assert rows.shape == alike.shape == (2, 4) and rows[:, 0].tolist() == [3, 30]
    np.testing.assert_allclose(alike[:, 0], 1, atol=2e-3)
    assert (np.diff(alike, axis=1) <= 0).all() and alike[:, 1].max() < 0.9


def test_similarity_is_the_cosine_around_the_mean(bank):
    """All 40 axes that 40 images span lose nothing of them."""
    seen, (asked,) = Eye().look(bank.images)[0], Eye().look(bank.images[:1])[0]
    centred, own = seen - seen.mean(axis=0), asked - seen.mean(axis=0)
    cosines = centred @ own / np.linalg.norm(centred, axis=1) / np.linalg.norm(own)
    rows, alike = bank.nearest(Eye(), bank.images[:1], count=40)
    np.testing.assert_allclose(alike[0], cosines[rows[0]], atol=5e-3)


def test_a_slightly_changed_image_is_found(bank):
    noise = np.random.default_rng(0).integers(-9, 10, bank.images[7].shape)
    changed = np.clip(bank.images[7].astype(int) + noise, 0, 255).astype(np.uint8)
    rows, alike = bank.nearest(Eye(), changed[None], count=1)
    assert rows.item() == 7 and alike.item() > bank.usual


def test_a_bank_smaller_than_what_is_asked_gives_all_it_has():
    small = Bank.fit(Eye(), scenes(3), np.array([0, 1, 1]))
    rows, alike = small.nearest(Eye(), scenes(2, seed=9))
    assert rows.shape == alike.shape == (2, 3) and np.isfinite(alike).all()


def test_images_that_look_the_same_to_the_network_leave_numbers_that_can_be_read():
    black = Bank.fit(Eye(), np.zeros((4, 32, 32, 3), np.uint8), np.arange(4) % 2)
    assert np.isfinite(black.nearest(Eye(), scenes(1))[1]).all()


def test_stored_and_loaded_it_finds_the_same_and_images_keep_every_pixel(bank, tmp_path):
    bank.save(tmp_path / FILE)
    loaded = Bank.load(tmp_path / FILE)
    np.testing.assert_array_equal(loaded.images, bank.images)
    np.testing.assert_array_equal(loaded.labels, bank.labels)
    for found, expected in zip(
        loaded.nearest(Eye(), scenes(5, seed=2)),
        bank.nearest(Eye(), scenes(5, seed=2)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_file_of_600_real_images_is_small(tmp_path):
    with zipfile.ZipFile(paths.data_dir() / "sample.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith((".jpg", ".png"))][:600]
        images = np.stack(
            [np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
        )
    wide = SimpleNamespace(look=lambda x: (np.random.default_rng(0).normal(size=(600, 1024)), None))
    Bank.fit(wide, images, np.arange(600) % 2).save(tmp_path / FILE)
    assert (tmp_path / FILE).stat().st_size < 1.8e6


def test_the_page_shows_six_with_class_and_likeness(bank, kept):
    html = neighbours_html(subject(bank.images[30], kept))
    said = shown(html)
    classes = re.findall(r"([●◆]) (REAL|FAKE) alike by (0\.\d\d|1\.00)", said)
    assert len(classes) == 6 and classes[0] == ("◆", "FAKE", "1.00")
    fake = [name for _, name, _ in classes].count("FAKE")
    assert f"Of the 6 most similar training images {fake} " in said
    assert f"and {6 - fake} REAL. Likeness is not evidence." in said
    assert all(icon == {"REAL": "●", "FAKE": "◆"}[name] for icon, name, _ in classes)
    assert html.count("<img") == len(re.findall(r'alt="[^"]+"', html)) == 7
    assert "nearest of 40 training images" in said


def test_a_large_picture_is_compared_as_the_models_see_it(bank, kept):
    large = bank.images[5].repeat(9, axis=0).repeat(9, axis=1)
    found = re.findall(r"alike by (\S+)", shown(neighbours_html(subject(large, kept))))
    assert float(found[0]) > 0.98


def test_without_a_bank_of_these_models_the_page_says_how_to_get_one(bank, kept):
    image = bank.images[0]
    without = runs.Run("robustness", kept.folder, kept.manifest | {"files": {}})
    cases = [subject(image, None), subject(image, kept, "another"), subject(image, without)]
    (kept.folder / FILE).write_bytes(b"")
    cases.append(subject(image, kept))
    for case in cases:
        html = neighbours_html(case)
        assert "--only robustness" in shown(html) and "<img" not in html
