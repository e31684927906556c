"""Images are decoded once and fed in bounded memory, in an order that follows from the seed."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import batches, data
from cifake_lib.batches import ImageBatches, class_weights, load_images, source_shares
from cifake_lib.images import fit_image
from cifake_lib.mixing import CutMix


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dataset(tmp_path):
    """Forty JPEG files of 32×32 pixels and two of other sizes."""
    rng = np.random.default_rng(0)
    for number in range(42):
        size = {40: (50, 40), 41: (20, 33)}.get(number, (32, 32))
        path = tmp_path / "mine" / data.CLASS_NAMES[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=75)
    return data.load_dataset(tmp_path / "mine")


def decode(path, size=32):
    """Decode with Pillow alone: central square, then bicubic."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if image.size != (size, size):
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image)


def epoch(feed):
    """All rows of the labels in the order in which an epoch brings them."""
    return np.concatenate([feed[i][1][:, 0] for i in range(len(feed))]).astype(int)


def numbered(count=100, **options):
    """A feed whose label and pixels are the row number."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return ImageBatches(images, np.arange(count), **options)


# The cache of decoded images


@pytest.mark.parametrize("size", [32, 48])
def test_pixels_are_those_of_the_files(dataset, size):
    images = load_images(dataset, image_size=size)
    assert images.shape == (42, size, size, 3)
    assert images.dtype == np.uint8
    for row, name in enumerate(dataset.table["path"]):
        expected = decode(dataset.folder / name, size)
        # Pillow's ImageOps.fit rounds its crop box elsewhere in floating point.
        assert np.abs(images[row].astype(int) - expected).max() <= (0 if size == 32 else 1), name


def test_decoded_once_and_opened_from_then_on(dataset, monkeypatch):
    first = np.array(load_images(dataset))
    monkeypatch.setattr(batches, "decode_image", lambda *_, **__: pytest.fail("decoded again"))
    again = load_images(dataset)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    np.testing.assert_array_equal(again, first)


def test_cache_is_keyed_by_content_and_size(dataset, cache, tmp_path):
    load_images(dataset)
    load_images(dataset)
    assert len(list((cache / "pixels").iterdir())) == 1
    load_images(dataset, image_size=48)
    assert len(list((cache / "pixels").iterdir())) == 2
    changed = dataset.folder / dataset.table["path"][3]
    Image.new("RGB", (32, 32), "red").save(changed)
    images = load_images(data.load_dataset(dataset.folder))
    assert len(list((cache / "pixels").iterdir())) == 3
    np.testing.assert_array_equal(images[3], decode(changed))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_decoding_leaves_nothing(dataset, cache, monkeypatch, error):
    calls, original = [], batches.fit_image

    def fail_late(*arguments):
        calls.append(arguments)
        if len(calls) == 30:
            raise error
        return original(*arguments)

    monkeypatch.setattr(batches, "_DECODE_TOGETHER", 8)
    monkeypatch.setattr(batches, "fit_image", fail_late)
    with pytest.raises((KeyboardInterrupt, OSError)):
        load_images(dataset)
    assert not list((cache / "pixels").iterdir())
    monkeypatch.undo()
    monkeypatch.setenv("CIFAKE_CACHE", str(cache))
    assert len(load_images(dataset)) == 42


def test_many_parts_end_up_in_order(dataset, monkeypatch):
    monkeypatch.setattr(batches, "_DECODE_TOGETHER", 5)
    images = load_images(dataset)
    for row in (0, 4, 5, 29):
        np.testing.assert_array_equal(images[row], decode(dataset.folder / dataset.table.path[row]))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """A shuffled epoch over 400 MB of pixels."""
    script = """if True:
        import sys
        import numpy as np, psutil
        from cifake_lib.batches import ImageBatches
        shape = (130_000, 32, 32, 3)
        array = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.uint8, shape=shape)
        array.reshape(130, -1)[:] = np.random.default_rng(0).bytes(1)[0]
        del array
        images = np.load(sys.argv[1], mmap_mode="r")
        feed = ImageBatches(images, np.zeros(len(images)), batch_size=256, shuffle=True)
        process, peak = psutil.Process(), 0
        before = process.memory_info().rss
        for i in range(len(feed)):
            feed[i]
            peak = max(peak, process.memory_info().rss - before)
        print(peak)
    """
    target = tmp_path / "pixels.npy"
    result = subprocess.run(
        [sys.executable, "-c", script, target], capture_output=True, text=True, check=True
    )
    target.unlink()
    assert int(result.stdout) < 50 * 2**20


@pytest.mark.parametrize("size", [8, 31, 321])
def test_sides_that_the_suite_is_not_made_for_are_refused(dataset, cache, size):
    with pytest.raises(ValueError, match=f"from 32 to 320 pixels, received {size}"):
        load_images(dataset, image_size=size)
    assert not cache.joinpath("pixels").exists()


@pytest.mark.parametrize("crop", ["centre", "squash", "random"])
def test_cached_pixels_are_those_that_the_detector_makes(dataset, crop):
    images = load_images(dataset, image_size=40, crop=crop)
    assert images.shape == (42, 40, 40, 3)
    for row, name in enumerate(dataset.table["path"]):
        expected = fit_image(Image.open(dataset.folder / name), 40, crop)
        np.testing.assert_array_equal(images[row], expected)
    with pytest.raises(ValueError, match="crop out of"):
        load_images(dataset, image_size=40, crop="middle")


def test_large_images_are_decoded_a_few_at_a_time(dataset, monkeypatch):
    written, stack = [], np.stack
    monkeypatch.setattr(batches, "_DECODE_BYTES", 5 * 3 * 64**2)
    monkeypatch.setattr(batches.np, "stack", lambda part: written.append(len(part)) or stack(part))
    load_images(dataset, image_size=64)
    assert set(written) == {5, 2}


def test_random_crops_follow_from_seed_and_epoch_and_validation_sees_the_middle(dataset):
    images = load_images(dataset, image_size=56, crop="random")
    whole = np.load(images.filename, mmap_mode="r")
    assert whole.shape == (42, 64, 64, 3)
    options = {"batch_size": 42, "seed": 5}
    train, validation = batches.training_batches(dataset, images, **options)
    rows = np.flatnonzero(dataset.rows("train"))
    seen = []
    for _ in range(2):
        first, again = train[0][0], train[0][0]
        np.testing.assert_array_equal(first, again)
        places = set()
        for row, crop in zip(rows, first, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(whole[row], (56, 56, 3))[
                ..., 0, :, :, :
            ]
            (found,) = np.argwhere((windows == crop).all(axis=(2, 3, 4)))
            places.add(tuple(found.tolist()))
        assert len(places) > 10  # Of 81, for some three dozen images.
        seen.append(first)
        train.on_epoch_end()
    assert not np.array_equal(*seen)
    other = batches.training_batches(dataset, images, batch_size=42, seed=6)[0]
    assert not np.array_equal(other[0][0], seen[0])
    held_out = np.flatnonzero(dataset.rows("validation"))
    np.testing.assert_array_equal(validation[0][0], whole[held_out, 4:-4, 4:-4])


# Batches


@pytest.mark.parametrize("shuffle", [False, True])
def test_mapped_and_plain_arrays_give_the_same_batches(dataset, shuffle):
    mapped, labels = load_images(dataset), dataset.table["label"].to_numpy()
    rows = dataset.rows("train").to_numpy()
    options = {"rows": rows, "batch_size": 7, "shuffle": shuffle, "seed": 4}
    from_file = ImageBatches(mapped, labels, **options)
    from_memory = ImageBatches(np.array(mapped), labels, **options)
    # A view of a map starts elsewhere in the file.
    from_view = ImageBatches(mapped[2:], labels[2:], **(options | {"rows": rows[2:]}))
    assert len(from_file) == -(-rows.sum() // 7)
    for i in range(len(from_file)):
        for ours, theirs in zip(from_file[i], from_memory[i], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for i in range(len(from_view)):
        images, values = from_view[i]
        for image, value in zip(images, values, strict=True):
            found = np.flatnonzero((mapped == image).all(axis=(1, 2, 3)))
            assert labels[found[0]] == value


def test_batch_contract():
    feed = numbered(10, batch_size=4)
    assert len(feed) == 3
    images, labels = feed[2]
    assert images.shape == (2, 4, 4, 3)
    assert images.dtype == np.uint8
    assert labels.shape == (2, 1)
    assert labels.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, 128])
def test_an_epoch_covers_each_row_once(batch_size):
    feed = numbered(batch_size=batch_size, shuffle=True)
    for _ in range(3):
        assert sorted(epoch(feed)) == list(range(100))
        feed.on_epoch_end()


def test_images_stay_with_their_labels():
    feed = numbered(batch_size=16, shuffle=True)
    for i in range(len(feed)):
        images, labels = feed[i]
        assert (images == labels[..., None, None].astype(np.uint8)).all()


def test_rows_by_number_or_mask():
    mask = np.arange(100) % 3 == 0
    assert epoch(numbered(rows=mask)).tolist() == list(range(0, 100, 3))
    assert epoch(numbered(rows=np.array([7, 5, 3]))).tolist() == [7, 5, 3]
    assert sorted(epoch(numbered(rows=mask, shuffle=True))) == list(range(0, 100, 3))
    with pytest.raises(ValueError, match="at least one image"):
        numbered(rows=np.zeros(100, dtype=bool))


def test_without_shuffling_every_epoch_is_in_order():
    feed = numbered(batch_size=16)
    feed.on_epoch_end()
    assert epoch(feed).tolist() == list(range(100))


def test_order_is_a_function_of_seed_and_epoch():
    feed, other = (numbered(batch_size=16, shuffle=True, seed=seed) for seed in (1, 2))
    orders = []
    for _ in range(3):
        orders.append(epoch(feed).tolist())
        feed.on_epoch_end()
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert epoch(other).tolist() != orders[0]
    # A run that was killed in epoch 2 starts there.
    resumed = numbered(batch_size=16, shuffle=True, seed=1)
    resumed.start_epoch(2)
    assert epoch(resumed).tolist() == orders[2]


def test_transform_sees_each_batch_with_a_repeatable_generator():
    def noise(images, rng):
        return images + rng.integers(1, 50, images.shape, dtype=np.uint8)

    plain = numbered(batch_size=16)
    feeds = [numbered(batch_size=16, seed=3, transform=noise) for _ in range(2)]
    first = [feeds[0][i][0] for i in range(len(plain))]
    for i in reversed(range(len(plain))):  # The order of access does not matter.
        np.testing.assert_array_equal(feeds[1][i][0], first[i])
        assert (first[i] > plain[i][0]).all()
    assert not np.array_equal(first[0] - plain[0][0], first[1] - plain[1][0])
    feeds[0].on_epoch_end()
    assert not np.array_equal(feeds[0][0][0], first[0])
    plain[0]
    assert plain.images.max() == 99  # The array itself is never written to.


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (50, 50, (1, 1)),
        (90, 100, (1, 1)),
        (89, 100, (189 / 178, 189 / 200)),
        (300, 100, (400 / 600, 2)),
    ],
)
def test_class_weights_make_both_classes_count_the_same_if_one_is_rarer(real, fake, expected):
    labels = np.array([0] * real + [1] * fake)
    weights = class_weights(labels)
    assert weights == pytest.approx(expected)
    if expected != (1, 1):
        assert weights[0] * real == pytest.approx(weights[1] * fake)
        assert np.array(weights)[labels].mean() == pytest.approx(1)


def test_rare_classes_weigh_more_in_training_alone(tmp_path):
    for number in range(40):
        path = tmp_path / "rare" / ("FAKE" if number % 5 == 0 else "REAL") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    dataset = data.load_dataset(tmp_path / "rare")
    images = load_images(dataset)
    train, validation = batches.training_batches(dataset, images, batch_size=64, seed=0)
    _, labels, weights = train[0]
    assert weights.dtype == np.float32 and weights.shape == (len(labels),)
    assert weights[labels[:, 0] == 1].sum() == pytest.approx(weights[labels[:, 0] == 0].sum())
    assert len(validation[0]) == 2
    # A label of .25 weighs a quarter of the way from REAL to FAKE.
    train.mix = lambda images, labels, rng: (images, np.full_like(labels, 0.25))
    real, fake = train.class_weights
    assert train[0][2] == pytest.approx(np.full(len(labels), 0.75 * real + 0.25 * fake))


def test_classes_alike_are_fed_as_they_always_were(dataset):
    train, _ = batches.training_batches(
        dataset, load_images(dataset), batch_size=8, seed=0, cutmix_share=0.5
    )
    assert train.class_weights == (1, 1) and isinstance(train.mix, CutMix)
    assert len(train[0]) == 2


def test_batches_of_another_size_hold_the_same_images():
    feed = numbered(batch_size=10, shuffle=True, seed=2)
    other = feed.with_batch_size(25)
    assert (len(feed), len(other)) == (10, 4)
    # Within a batch they are in file order.
    assert sorted(epoch(feed)[:50]) == sorted(epoch(other)[:50]) != list(range(50))


# Drawing by shares


def test_each_row_is_drawn_as_often_as_its_share_says():
    shares = np.r_[np.full(50, 1.0), np.full(40, 3.0), np.zeros(10)]
    feed = numbered(shuffle=True, shares=shares, batch_size=16)
    expected = 100 * shares / shares.sum()
    orders = []
    for number in range(3):
        feed.start_epoch(number)
        orders.append(epoch(feed))
        drawn = np.bincount(orders[-1], minlength=100)
        assert drawn.sum() == 100
        assert (np.abs(drawn - expected) < 1).all() and not drawn[90:].any()
    assert (orders[0] != orders[1]).any() and len(set(map(tuple, map(sorted, orders)))) > 1
    feed.start_epoch(0)
    np.testing.assert_array_equal(epoch(feed), orders[0])


def test_labels_and_sources_are_balanced():
    sources = ["a"] * 64 + ["b"] * 16 + ["c"] * 9 + [""] * 4 + ["left out"] * 7
    labels = [0] * 80 + [1] * 20
    table = pd.DataFrame({"label": labels, "source": sources})
    dataset = data.Dataset("made", None, table, table[:0], "")
    shares = source_shares(dataset, table["source"] != "left out")
    assert shares.sum() == pytest.approx(1)
    by = pd.Series(shares).groupby(table["source"]).sum()
    # Roots of 64 and 16, and of 9 and 4, share half each.
    assert by.to_dict() == pytest.approx({"a": 1 / 3, "b": 1 / 6, "c": 0.3, "": 0.2, "left out": 0})
    assert pd.Series(shares[:64]).nunique() == 1


def test_photographs_are_fed_after_random_deliveries_and_validated_as_they_are(dataset):
    images = load_images(dataset, image_size=64)
    train, validation = batches.delivered_batches(dataset, images, side=40, batch_size=8, seed=3)
    seen, labels = train[0]
    assert seen.shape == (8, 40, 40, 3) and seen.dtype == np.uint8 and labels.shape == (8, 1)
    np.testing.assert_array_equal(seen, train[0][0])
    assert (train.shares > 0).tolist() == dataset.rows("train").tolist()
    kept = images[dataset.rows("validation")][:, 12:-12, 12:-12]
    np.testing.assert_array_equal(np.concatenate([b[0] for b in validation]), kept)
    with pytest.raises(ValueError, match="larger than 41 pixels by an even number, received 64"):
        batches.delivered_batches(dataset, images, side=41, batch_size=8, seed=3)
