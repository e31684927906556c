"""A data set is found in the documented order, indexed completely, and its faults are named."""

import io
import re
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import data, indexing
from cifake_lib.archives import ArchiveError
from cifake_lib.data import DatasetError, find_dataset, load_dataset
from cifake_lib.indexing import index_images


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """An own cache, an empty data folder, an empty kagglehub cache."""
    for variable, name in (
        ("CIFAKE_HOME", "home"),
        ("CIFAKE_DATA", "home/data"),
        ("CIFAKE_CACHE", "cache"),
        ("KAGGLEHUB_CACHE", "kagglehub"),
    ):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(variable, str(folder))


def picture(number):
    """A small PNG, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(folder, classes=("REAL", "FAKE"), *, count=3, first=0):
    """Write `count` different images into each class folder."""
    for number, name in enumerate(classes):
        for i in range(count):
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(first + 100 * number + i))
    return folder


def make_zip(path, *, first=0, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(("REAL", "FAKE")):
            for i in range(3):
                archive.writestr(f"{prefix}{name}/{i}.png", picture(first + 100 * number + i))
    return path


def kaggle_copy(tmp_path, version, *, complete=True):
    home = tmp_path / "kagglehub" / "datasets" / data.KAGGLE_HANDLE
    folder = make_folder(home / "versions" / version, ("train/REAL", "train/FAKE"))
    if complete:
        (home / f"{version}.complete").touch()
    return folder


def fake_kagglehub(monkeypatch, download):
    module = types.ModuleType("kagglehub")
    module.dataset_download = download
    monkeypatch.setitem(sys.modules, "kagglehub", module)


# Where a data set is found


@pytest.mark.parametrize("as_text", [True, False])
def test_explicit_folder(tmp_path, as_text):
    folder = make_folder(tmp_path / "mine")
    dataset = load_dataset(str(folder) if as_text else folder)
    assert (dataset.name, dataset.folder, len(dataset.table)) == ("mine", folder, 6)


def test_explicit_archive_is_unpacked_into_the_cache_once(tmp_path):
    archive = make_zip(tmp_path / "mine.zip")
    first = load_dataset(archive)
    assert first.name == "mine.zip"
    assert first.folder.is_relative_to(tmp_path / "cache")
    (first.folder / "mark").touch()
    second = load_dataset(archive)
    assert second.folder == first.folder
    assert (second.folder / "mark").is_file()


def test_a_changed_archive_is_unpacked_anew(tmp_path):
    before = load_dataset(make_zip(tmp_path / "mine.zip"))
    after = load_dataset(make_zip(tmp_path / "mine.zip", first=1000, prefix="wrapped/"))
    assert set(before.table["content_hash"]).isdisjoint(after.table["content_hash"])


def test_relative_path_is_looked_up_here_and_then_in_the_project(tmp_path, monkeypatch):
    make_folder(tmp_path / "home" / "own")
    monkeypatch.chdir(tmp_path)
    assert find_dataset("own")[1].resolve() == tmp_path / "home" / "own"
    make_folder(tmp_path / "own")
    assert find_dataset("own")[1].resolve() == tmp_path / "own"


def test_missing_path_says_what_was_expected(tmp_path):
    with pytest.raises(
        DatasetError, match=r"folder, a zip or tar.*'cifake-train' or 'auto'.*absent"
    ):
        load_dataset(tmp_path / "absent")


def test_file_that_is_no_archive(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ArchiveError, match=r"Expected a zip or tar archive.*notes\.txt"):
        load_dataset(tmp_path / "notes.txt")


def test_sample_is_the_default_and_what_auto_falls_back_to(tmp_path):
    with pytest.raises(DatasetError, match="Expected the embedded sample at .*sample.zip"):
        load_dataset()
    make_zip(tmp_path / "home" / "data" / "sample.zip")
    assert load_dataset().name == load_dataset("auto").name == "sample"


@pytest.mark.parametrize("asked", ["full", "auto"])
def test_downloaded_copy_comes_before_kaggle_and_the_sample(tmp_path, monkeypatch, asked):
    fake_kagglehub(monkeypatch, lambda handle: pytest.fail("must not download"))
    make_zip(tmp_path / "home" / "data" / "sample.zip")
    make_zip(tmp_path / "home" / "data" / "cifake.zip", first=500)
    name, folder = find_dataset(asked)
    assert name == "full"
    assert folder.name.startswith("cifake-")
    # An unpacked copy comes first of all.
    unpacked = make_folder(tmp_path / "home" / "data" / "cifake", first=700)
    assert find_dataset(asked) == ("full", unpacked)


@pytest.mark.parametrize("name", ["archive.zip", "cifake-real-and-ai-generated.zip"])
def test_names_of_a_download_by_hand(tmp_path, name):
    make_zip(tmp_path / "home" / "data" / name)
    assert find_dataset("auto")[0] == "full"


def test_unfinished_download_is_not_taken_for_a_copy(tmp_path):
    make_zip(tmp_path / "home" / "data" / "sample.zip")
    (tmp_path / "home" / "data" / "cifake.tar.xz.part").write_bytes(b"half of it")
    kaggle_copy(tmp_path, "3", complete=False)
    assert find_dataset("auto")[0] == "sample"


def test_latest_complete_copy_of_kagglehub(tmp_path):
    kaggle_copy(tmp_path, "9")
    newest = kaggle_copy(tmp_path, "10")
    kaggle_copy(tmp_path, "11", complete=False)
    assert find_dataset("full") == ("full", newest)


def test_cifake_train_is_the_training_folder_of_the_download_alone(tmp_path):
    copy = tmp_path / "home" / "data" / "cifake"
    make_folder(copy / "train")
    make_folder(copy / "test", first=500)
    dataset = load_dataset("cifake-train")
    assert (dataset.name, dataset.folder) == ("cifake-train", copy / "train")
    assert dataset.table["path"].str.startswith(("REAL", "FAKE")).all()
    assert set(dataset.table["split"]) == {"train", "validation", "test"}
    assert not (load_dataset("full").table["official_split"] == "").any()


def test_full_is_downloaded_only_when_asked_for(tmp_path, monkeypatch):
    asked = []

    def download(handle):
        asked.append(handle)
        return str(make_folder(tmp_path / "download"))

    fake_kagglehub(monkeypatch, download)
    make_zip(tmp_path / "home" / "data" / "sample.zip")
    assert find_dataset("auto")[0] == "sample"
    assert asked == []
    assert find_dataset("full") == ("full", tmp_path / "download")
    assert asked == ["birdy654/cifake-real-and-ai-generated-synthetic-images"]


def test_failed_download_says_what_happened_and_what_to_do(tmp_path, monkeypatch):
    def download(handle):
        raise ConnectionError("no route to host")

    fake_kagglehub(monkeypatch, download)
    make_zip(tmp_path / "home" / "data" / "sample.zip")
    with pytest.raises(DatasetError) as caught:
        load_dataset("full")
    message = str(caught.value)
    assert "ConnectionError: no route to host" in message
    assert f"https://www.kaggle.com/datasets/{data.KAGGLE_HANDLE}" in message
    assert str(tmp_path / "home" / "data") in message
    assert "cifake.zip" in message
    assert "data_dir" in message


def test_missing_kagglehub_is_a_failed_download_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DatasetError, match="could not be downloaded.*by hand"):
        load_dataset("full")


# Which folders are a data set


@pytest.mark.parametrize(
    ("classes", "official"),
    [
        (("REAL", "FAKE"), {""}),
        (("real", "fake"), {""}),
        (("real", "ai"), {""}),
        (("Real", "AI"), {""}),
        (("train/REAL", "train/FAKE"), {"train"}),
        (("train/REAL", "train/FAKE", "test/REAL", "test/FAKE"), {"train", "test"}),
        (("Train/real", "Train/ai", "Test/real", "Test/ai"), {"train", "test"}),
        (("train/REAL", "train/FAKE", "val/REAL", "val/FAKE"), {"train", "validation"}),
        (
            ("train/REAL", "train/FAKE", "validation/REAL", "validation/FAKE"),
            {"train", "validation"},
        ),
        (("cifake/train/REAL", "cifake/train/FAKE"), {"train"}),
        (("outer/inner/REAL", "outer/inner/FAKE"), {""}),
    ],
)
def test_folder_variants(tmp_path, classes, official):
    dataset = load_dataset(make_folder(tmp_path / "mine", classes))
    table = dataset.table
    assert len(table) == 3 * len(classes)
    assert set(table["official_split"]) == official
    for row in table.itertuples():
        assert (tmp_path / "mine" / row.path).is_file()
        assert row.label == (0 if "/real/" in f"/{row.path.lower()}" else 1)
    for split in official - {"", "train"}:
        assert (table["split"] == table["official_split"])[table["official_split"] == split].all()
    # Where there is no test or validation folder, part of the rest is held out.
    assert {"test", "validation"} <= set(table["split"])


def test_images_in_folders_below_the_class_folder(tmp_path):
    folder = make_folder(tmp_path / "mine", ("REAL/cats/tabby", "FAKE/dogs"))
    assert set(load_dataset(folder).table["path"].str.split("/").str[1]) == {"cats", "dogs"}


def test_clutter_of_operating_systems_and_editors_is_ignored(tmp_path):
    folder = make_folder(tmp_path / "mine")
    for name in ("REAL/.DS_Store", "REAL/Thumbs.db", "REAL/.ipynb_checkpoints/0.png", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"clutter")
    make_folder(folder / "__MACOSX")
    dataset = load_dataset(folder)
    assert len(dataset.table) == 6
    assert dataset.skipped.empty


@pytest.mark.parametrize("classes", [("REAL",), ("train/FAKE",), ("cats", "dogs"), ()])
def test_fewer_than_two_classes_names_the_folder(tmp_path, classes):
    folder = tmp_path / "mine"
    folder.mkdir()
    make_folder(folder, classes)
    with pytest.raises(DatasetError, match=re.escape(str(folder))):
        load_dataset(folder)


def test_class_names_that_match_no_folder_say_which_folders_are_there(tmp_path):
    folder = make_folder(tmp_path / "mine", ("train/nature", "train/ai", "val/nature", "val/ai"))
    with pytest.raises(DatasetError, match=r"folders REAL and FAKE .*found ai, nature\.") as caught:
        load_dataset(folder / "val")
    assert "class_names" in str(caught.value)
    assert load_dataset(folder, class_names=["Nature", "AI"]).table["label"].sum() == 6
    with pytest.raises(DatasetError, match=r"folders nature and flux in .*found train, val"):
        load_dataset(folder, class_names=["nature", "flux"])


@pytest.mark.parametrize("names", [["REAL"], ["a", "A"], "ab", ["a", ""], ["a", "b", "c"], [0, 1]])
def test_class_names_that_are_not_two_names(tmp_path, names):
    with pytest.raises(DatasetError, match="class_names to be two different names.*received"):
        load_dataset(make_folder(tmp_path / "mine"), class_names=names)


def test_nothing_in_the_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DatasetError, match="folders REAL and FAKE in .*mine.*found no folders"):
        load_dataset(tmp_path / "mine")


def test_nothing_that_can_be_decoded_names_a_file_and_what_it_is(tmp_path):
    folder = make_folder(tmp_path / "mine")
    for path in folder.rglob("*.png"):
        path.write_text("no image")
    with pytest.raises(DatasetError, match=r"6 files were left out; the first: FAKE/0\.png is not"):
        load_dataset(folder)


def test_two_classes_with_the_same_images(tmp_path):
    folder = make_folder(tmp_path / "mine")
    for i in range(3):
        (folder / "FAKE" / f"{i}.png").write_bytes(picture(i))
    with pytest.raises(
        DatasetError, match=r"other images in REAL than in FAKE.*both .*\(6 of them"
    ):
        load_dataset(folder)


def test_five_images_are_too_few_and_the_sentence_says_why(tmp_path):
    folder = make_folder(tmp_path / "mine")
    (folder / "FAKE" / "2.png").write_bytes(picture(100))  # equal to 0.png
    with pytest.raises(
        DatasetError, match=r"at least 3 different images.*train, validate and test"
    ):
        load_dataset(folder)
    (folder / "FAKE" / "2.png").unlink()
    with pytest.raises(DatasetError, match="there are 3 different of REAL and 2 of FAKE"):
        load_dataset(folder)


@pytest.mark.parametrize("broken", [False, True])
def test_empty_class_names_the_folder_and_the_class(tmp_path, broken):
    folder = make_folder(tmp_path / "mine", ("REAL",))
    (folder / "FAKE").mkdir()
    if broken:
        (folder / "FAKE" / "a.png").write_text("no image")
    with pytest.raises(
        DatasetError, match=rf"class FAKE in {re.escape(str(folder))}.*{broken:d} f"
    ):
        load_dataset(folder)


def test_empty_class_of_an_official_split_is_named(tmp_path):
    folder = make_folder(tmp_path / "mine", ("train/REAL", "train/FAKE", "test/FAKE"))
    (folder / "test" / "REAL").mkdir()
    with pytest.raises(DatasetError, match=r"class REAL in .*mine for the split test"):
        load_dataset(folder)


# What the index says


def test_columns_and_hashes(tmp_path):
    import hashlib

    table = load_dataset(make_folder(tmp_path / "mine", ("train/REAL", "train/FAKE"))).table
    assert list(table.columns) == [
        "path",
        "label",
        "object_class",
        "content_hash",
        "official_split",
        "source",
        "group",
        "split",
        "crosses_split",
    ]
    assert table["path"].is_monotonic_increasing
    row = table[table["path"] == "train/FAKE/1.png"].iloc[0]
    assert row["label"] == 1
    assert row["object_class"] == ""
    assert row["content_hash"] == hashlib.sha256(picture(101)).hexdigest()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0001.png", "airplane"), ("0042 (2).png", "automobile"), ("4999 (10).png", "truck")],
)
def test_object_class_from_cifake_names(tmp_path, name, expected):
    folder = make_folder(tmp_path / "mine", count=2)
    for label, number in (("REAL", 0), ("FAKE", 100)):
        (folder / label / "0.png").rename(folder / label / "0007 (4).png")
        (folder / label / "1.png").rename(folder / label / "0008 (4).png")
        (folder / label / name).write_bytes(picture(number + 50))
    table = load_dataset(folder).table
    assert set(table["object_class"]) == {"cat", expected}


@pytest.mark.parametrize(
    "names",
    [["0001.png", "0002.png", "0003.png"], ["0001 (2).png", "0002 (2).png", "cat.png"]],
)
def test_no_object_class_where_the_names_are_not_cifakes(tmp_path, names):
    folder = make_folder(tmp_path / "mine")
    for label in ("REAL", "FAKE"):
        for i, name in enumerate(names):
            (folder / label / f"{i}.png").rename(folder / label / name)
    assert set(load_dataset(folder).table["object_class"]) == {""}


def test_unreadable_files_are_reported_by_name_and_left_out(tmp_path, monkeypatch, caplog):
    folder = make_folder(tmp_path / "mine", count=4)
    (folder / "REAL" / "text.jpg").write_text("no image")
    (folder / "FAKE" / "cut.png").write_bytes(picture(1)[:60])
    (folder / "FAKE" / "empty.png").touch()
    real_read = Path.read_bytes

    def read(path):
        if path.name == "2.png" and path.parent.name == "REAL":
            raise PermissionError(13, "Permission denied")
        return real_read(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    for _ in range(2):  # Read, and then from the stored index.
        dataset = load_dataset(folder)
        reasons = dataset.skipped.set_index("path")["reason"]
        assert set(reasons.index) == {
            "REAL/text.jpg",
            "REAL/2.png",
            "FAKE/cut.png",
            "FAKE/empty.png",
        }
        assert "not an image" in reasons["REAL/text.jpg"]
        assert "damaged" in reasons["FAKE/cut.png"]
        assert "empty" in reasons["FAKE/empty.png"]
        assert "Permission denied" in reasons["REAL/2.png"]
        assert len(dataset.table) == 7
        assert "4 of 11 files" in caplog.text
        assert dataset.manifest()["skipped"] == 4
        caplog.clear()


def test_a_file_in_both_classes_is_left_out_on_both_sides(tmp_path):
    folder = make_folder(tmp_path / "mine")
    for name in ("REAL", "FAKE"):
        (folder / name / "same.png").write_bytes(picture(999))
    dataset = load_dataset(folder)
    assert set(dataset.skipped["path"]) == {"REAL/same.png", "FAKE/same.png"}
    assert dataset.skipped["reason"].str.contains("both classes").all()
    assert len(dataset.table) == 6


def test_index_is_stored_and_renewed_when_a_file_changes(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "mine")
    before = load_dataset(folder)
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "_read_contents", lambda *_: pytest.fail("must not read again"))
        pd.testing.assert_frame_equal(load_dataset(folder).table, before.table)
    (folder / "FAKE" / "new.png").write_bytes(picture(555))
    assert len(load_dataset(folder).table) == 7


def test_interrupted_indexing_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "mine")
    with monkeypatch.context() as patch:
        patch.setattr(
            indexing, "decode_image", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            index_images(folder)
    assert not list((tmp_path / "cache").rglob("*.csv"))
    assert len(index_images(folder)[0]) == 6


# Splits of a data set


def test_shares_split_anew_whatever_the_folders_say(tmp_path):
    folder = make_folder(
        tmp_path / "mine", ("train/REAL", "train/FAKE", "test/REAL", "test/FAKE"), count=20
    )
    assert load_dataset(folder).rows("test").sum() == 40
    dataset = load_dataset(folder, split_shares=[0.7, 0.2, 0.1])
    counts = dataset.summary()[["REAL", "FAKE"]]
    assert counts.loc["train"].tolist() == [28, 28]
    assert counts.loc["validation"].tolist() == [8, 8]
    assert counts.loc["test"].tolist() == [4, 4]
    assert set(dataset.table.loc[dataset.rows("test"), "official_split"]) == {"train", "test"}


def test_shares_mend_an_official_split_that_lacks_a_class(tmp_path):
    folder = make_folder(tmp_path / "mine", ("train/REAL", "train/FAKE", "test/FAKE"), count=5)
    with pytest.raises(DatasetError, match="set split_shares"):
        load_dataset(folder)
    dataset = load_dataset(folder, split_shares=[0.6, 0.2, 0.2])
    assert (dataset.summary()[["REAL", "FAKE"]] > 0).all(axis=None)


@pytest.mark.parametrize(
    "shares", [[0.7, 0.3], [0.8, 0.2, 0.0], [0.7, 0.2, 0.2], [1.2, -0.1, -0.1], ["a", 0.1, 0.1]]
)
def test_shares_that_are_none(tmp_path, shares):
    with pytest.raises(DatasetError, match=r"split_shares to be three positive numbers.*received"):
        load_dataset(make_folder(tmp_path / "mine"), split_shares=shares)


def test_copies_share_a_split_and_copies_across_a_boundary_are_flagged(tmp_path):
    folder = make_folder(
        tmp_path / "mine", ("train/REAL", "train/FAKE", "test/REAL", "test/FAKE"), count=4
    )
    for name in ("train/FAKE/copy.png", "train/FAKE/again.png"):
        (folder / name).write_bytes(picture(100))  # train/FAKE/0.png
    (folder / "train/REAL/leak.png").write_bytes(picture(200))  # test/REAL/0.png
    dataset = load_dataset(folder)
    table = dataset.table.set_index("path")
    copies = ["train/FAKE/0.png", "train/FAKE/copy.png", "train/FAKE/again.png"]
    assert table.loc[copies, "split"].nunique() == 1
    assert not table.loc[copies, "crosses_split"].any()
    assert set(table.index[table["crosses_split"]]) == {"train/REAL/leak.png", "test/REAL/0.png"}
    summary = dataset.summary()
    assert summary["exact copies"].sum() == 3
    assert summary.loc["test", "copies across splits"] == 1
    assert summary.loc["test", ["REAL", "FAKE"]].tolist() == [4, 4]


def test_split_is_written_to_a_file_named_by_its_hash(tmp_path):
    folder = make_folder(tmp_path / "mine", count=20)
    dataset, other = load_dataset(folder), load_dataset(folder, split_seed=1)
    assert dataset.split_hash != other.split_hash
    for each in (dataset, other):
        stored = pd.read_csv(
            tmp_path / "cache" / "splits" / f"{each.split_hash}.csv", keep_default_na=False
        )
        assert stored["path"].tolist() == each.table["path"].tolist()
        assert stored["split"].tolist() == each.table["split"].tolist()


def test_the_same_images_elsewhere_have_the_same_split(tmp_path):
    here = load_dataset(make_folder(tmp_path / "here", count=30))
    there = load_dataset(make_folder(tmp_path / "there", count=30))
    assert here.split_hash == there.split_hash


def test_max_images_keeps_each_images_split(tmp_path):
    folder = make_folder(tmp_path / "mine", count=40)
    whole = load_dataset(folder).table.set_index("path")["split"]
    part = load_dataset(folder, max_images=20)
    assert len(part.table) == pytest.approx(20, abs=3)
    assert part.table.index.tolist() == list(range(len(part.table)))
    assert part.table.set_index("path")["split"].equals(whole[part.table["path"]])
    assert (part.summary()[["REAL", "FAKE"]] > 0).all(axis=None)


def test_some_of_each_class_are_spread_over_the_split(tmp_path):
    dataset = load_dataset(make_folder(tmp_path / "mine", count=40))
    rows = dataset.some_of_each("train", 5)
    labels = dataset.table["label"].to_numpy()
    assert labels[rows].tolist() == [0] * 5 + [1] * 5
    assert dataset.rows("train")[rows].all()
    names = dataset.table["path"][rows[:5]].tolist()  # In path order they would all begin with 1.
    assert len({name[5] for name in names}) > 2
    assert len(dataset.some_of_each("validation", 5)) == 4


def test_rows_and_manifest_count_the_same(tmp_path):
    dataset = load_dataset(make_folder(tmp_path / "mine", count=40))
    counts = dataset.manifest()["counts"]
    assert counts == {
        "train": {"REAL": 34, "FAKE": 34},
        "validation": {"REAL": 2, "FAKE": 2},
        "test": {"REAL": 4, "FAKE": 4},
    }
    assert dataset.rows("test").sum() == 8
    assert dataset.manifest()["split_hash"] == dataset.split_hash
