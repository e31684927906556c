"""An index.csv tells label, split, source and group, and its faults are named in words."""

import io
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifake_lib import indexing
from cifake_lib.data import DatasetError, load_dataset
from cifake_lib.index_file import read_origins


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_CACHE", str(tmp_path / "cache"))


def picture(number):
    """A small PNG, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_files(folder, names, *, index=""):
    """Write a different image to each name, and an index.csv if there is any text for it."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    if index:
        (folder / "index.csv").write_text(index, encoding="utf-8")
    return folder


def in_classes(count=5):
    return [f"{name}/{i}.png" for name in ("REAL", "FAKE") for i in range(count)]


def rows(*lines, header="path,label"):
    return "\n".join([header, *lines]) + "\n"


def labelled(count=5):
    return rows(*(f"{i}.png,{'FAKE' if i % 2 else 'REAL'}" for i in range(2 * count)))


def named(count=5):
    return [f"{i}.png" for i in range(2 * count)]


# What it tells


def test_labels_make_images_of_one_folder_a_data_set(tmp_path):
    table = load_dataset(make_files(tmp_path / "mine", named(), index=labelled())).table
    assert len(table) == 10
    for row in table.itertuples():
        assert row.label == int(row.path[:-4]) % 2


def test_all_columns_and_no_others(tmp_path):
    lines = [
        f"{name},{name[:4]},{split},camera {i % 3},scene {i % 5}{name[0]},x"
        for name in in_classes(15)
        for i in [int(name[5:-4])]
        for split in [["train", "val", "test", "", ""][i % 5]]
    ]
    header = "File,Label,Split,Source,Group,licence"
    folder = make_files(tmp_path / "mine", in_classes(15), index=rows(*lines, header=header))
    table = load_dataset(folder).table.set_index("path")
    assert "licence" not in table
    assert (table["source"] == [f"camera {int(name[5:-4]) % 3}" for name in table.index]).all()
    assert table.loc["REAL/7.png", "group"] == "scene 2R"
    assert table.loc["REAL/7.png", "split"] == "test"
    assert table.loc["FAKE/1.png", "split"] == "validation"
    assert set(table.loc[table["official_split"] == "", "split"]) == {"train"}


def test_without_labels_folders_tell_the_class_and_it_adds_to_some_files(tmp_path):
    index = rows("FAKE/0.png,Midjourney", "REAL/3.png,phone", header="path,source")
    table = load_dataset(make_files(tmp_path / "mine", in_classes(), index=index)).table
    assert len(table) == 10
    sources = table.set_index("path")["source"]
    assert sources["FAKE/0.png"] == "Midjourney"
    assert sources["REAL/3.png"] == "phone"
    assert (sources == "").sum() == 8


def test_files_that_an_index_with_labels_does_not_name_are_not_used(tmp_path):
    folder = make_files(tmp_path / "mine", [*named(), "draft.png"], index=labelled())
    assert "draft.png" not in set(load_dataset(folder).table["path"])


def test_class_names_are_those_of_the_labels(tmp_path):
    index = labelled().replace("REAL", "Nature").replace("FAKE", "SDXL")
    folder = make_files(tmp_path / "mine", named(), index=index)
    with pytest.raises(DatasetError, match=r"labels real and fake.*'Nature', 'SDXL'.*class_names"):
        load_dataset(folder)
    table = load_dataset(folder, class_names=["nature", "sdxl"]).table
    assert table["label"].sum() == 5


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_it_is_found_in_archives_and_in_a_wrapping_folder(tmp_path, kind, wrapped):
    folder = tmp_path / "mine"
    make_files(folder / "photos" if wrapped else folder, named(), index=labelled())
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for path in folder.rglob("*.*"):
                archive.write(path, path.relative_to(folder))
        folder = tmp_path / "mine.zip"
    if kind == "tar":
        with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as archive:
            archive.add(folder, ".")
        folder = tmp_path / "mine.tar.gz"
    dataset = load_dataset(folder)
    assert len(dataset.table) == 10
    assert (dataset.folder / dataset.table["path"][0]).is_file()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,  # Excel's mark of UTF-8
        lambda text: text.replace(",", ";"),  # a European Excel
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " \n./").removesuffix("./"),
        lambda text: text.replace("path,", "path, ").replace(",REAL", ", real "),
    ],
)
def test_spellings_of_spreadsheets(tmp_path, change):
    folder = make_files(tmp_path / "mine", named(), index=change(labelled()))
    assert load_dataset(folder).table["label"].sum() == 5


def test_paths_of_windows_and_letters_of_macos(tmp_path):
    names = [f"Fotos/Ma\u0308dchen {i}.png" for i in range(6)]  # decomposed, as macOS writes
    lines = [f"Fotos\\M\u00e4dchen {i}.png,{'FAKE' if i % 2 else 'REAL'}" for i in range(6)]
    table = load_dataset(make_files(tmp_path / "mine", names, index=rows(*lines))).table
    assert set(table["path"]) == set(names)


def test_a_changed_index_is_read_anew_and_no_image_twice(tmp_path, monkeypatch):
    folder = make_files(tmp_path / "mine", named(), index=labelled())
    before = load_dataset(folder).table
    monkeypatch.setattr(indexing, "_read_contents", lambda *_: pytest.fail("must not read again"))
    swapped = labelled().replace("REAL", "x").replace("FAKE", "REAL").replace("x", "FAKE")
    (folder / "index.csv").write_text(swapped)
    after = load_dataset(folder).table
    pd.testing.assert_series_equal(after["label"], 1 - before["label"])


# What is wrong with it


def test_what_cannot_be_used_is_reported_in_words(tmp_path, caplog):
    header = "path,label,split"
    lines = [line + "," for line in labelled().splitlines()[1:]]
    lines += ["gone.png,REAL,", "../../secret.png,REAL,", "odd.png,dog,", "held.png,FAKE,holdout"]
    lines += ["both.png,REAL,", "both.png,FAKE,", "text.png,REAL,", "none.png,,", lines[0]]
    (tmp_path / "secret.png").write_bytes(picture(99))
    files = [*named(), "odd.png", "held.png", "both.png", "none.png"]
    folder = make_files(tmp_path / "mine", files, index=rows(*lines, header=header))
    (folder / "text.png").write_text("no image")
    dataset = load_dataset(folder)
    assert len(dataset.table) == 10
    reasons = dataset.skipped.set_index("path")["reason"]
    assert reasons["gone.png"] == "index.csv names it, and there is no such file."
    assert "no such file" in reasons["../../secret.png"]
    assert reasons["odd.png"] == "index.csv gives it the label 'dog', expected real or fake."
    assert "the split 'holdout', expected train, validation or test" in reasons["held.png"]
    assert reasons["both.png"] == "index.csv names it twice, differently."
    assert "not an image" in reasons["text.png"]
    assert "the label ''" in reasons["none.png"]
    assert len(reasons) == 7
    assert "7 of 17 files" in caplog.text


def test_a_file_outside_the_class_folders_without_a_label(tmp_path):
    folder = make_files(tmp_path / "mine", [*in_classes(), "extra/a.png"])
    (folder / "index.csv").write_text(rows("extra/a.png,x", "REAL/0.png,y", header="path,source"))
    dataset = load_dataset(folder)
    assert len(dataset.table) == 10
    assert "no folder REAL or FAKE" in dataset.skipped["reason"][0]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("name,label\n0.png,REAL\n", "column path or file .* found name, label"),
        ("path,label\n", "found no rows"),
        ("path,label\nfotos/0.png,REAL\n", r"no such file: 'fotos/0\.png'"),
        ("path,label\n0.png,REAL\n1.png,real\n", r"labels real and fake.*found \['REAL', 'real'\]"),
        ('path,label\n"0.png,REAL\n1.png,FAKE\n', "Expected .*index.csv to be a table"),
    ],
)
def test_an_index_that_cannot_be_used_gets_one_sentence(tmp_path, index, message):
    folder = make_files(tmp_path / "mine", named(), index=index)
    with pytest.raises(DatasetError, match=message):
        load_dataset(folder)


def test_an_index_that_is_not_utf8(tmp_path):
    folder = make_files(tmp_path / "mine", named())
    (folder / "index.csv").write_bytes(labelled().encode("utf-16"))
    with pytest.raises(DatasetError, match=r"index\.csv to be a table with commas in UTF-8"):
        load_dataset(folder)


# Groups and sources


def test_groups_never_straddle_a_split(tmp_path):
    lines = [f"{name},{name[:4]},g{int(name[5:-4]) // 3}" for name in in_classes(30)]
    header = "path,label,group"
    folder = make_files(tmp_path / "mine", in_classes(30), index=rows(*lines, header=header))
    dataset = load_dataset(folder, split_shares=[0.6, 0.2, 0.2])
    assert (dataset.table.groupby("group")["split"].nunique() == 1).all()
    assert (dataset.summary()[["REAL", "FAKE"]] > 0).all(axis=None)


def test_a_split_that_cuts_through_a_group_is_an_error_that_names_it(tmp_path):
    lines = [f"{name},train,g{int(name[5:-4]) // 2}" for name in in_classes(6)]
    for i in (0, 6):  # one image of each class, whose neighbours stay for training
        lines[i] = lines[i].replace("train", "test")
    index = rows(*lines, header="path,split,group")
    folder = make_files(tmp_path / "mine", in_classes(6), index=index)
    with pytest.raises(DatasetError, match=r"\['test', 'train'\] for the group 'g0'.*split_shares"):
        load_dataset(folder)
    assert len(load_dataset(folder, split_shares=[0.5, 0.25, 0.25]).table) == 12


def test_left_out_sources_become_the_test_split_whole(tmp_path):
    sources = {"REAL": ["phone", "Flickr", "film"], "FAKE": ["SDXL", "Midjourney", "Flux"]}
    lines = [f"{name},{sources[name[:4]][int(name[5:-4]) % 3]}" for name in in_classes(12)]
    index = rows(*lines, header="path,source")
    folder = make_files(tmp_path / "mine", in_classes(12), index=index)
    dataset = load_dataset(folder, left_out_sources=["film", "SDXL"])
    tested = dataset.table[dataset.table["split"] == "test"]
    assert set(tested["source"]) == {"film", "SDXL"}
    assert len(tested) == 8
    assert not dataset.table["crosses_split"].any()
    assert (dataset.summary()[["REAL", "FAKE"]] > 0).all(axis=None)
    with pytest.raises(DatasetError, match=r"received 'Midjorney'; the nearest is 'Midjourney'"):
        load_dataset(folder, left_out_sources=["Midjorney"])
    with pytest.raises(DatasetError, match=r"both classes to test on.*\['film'\].*no FAKE"):
        load_dataset(folder, left_out_sources=["film"])


def test_left_out_sources_of_a_data_set_without_any(tmp_path):
    folder = make_files(tmp_path / "mine", in_classes())
    with pytest.raises(DatasetError, match="sources of index.csv, received 'x'; it names none"):
        load_dataset(folder, left_out_sources=["x"])


def test_where_files_come_from_is_read_for_those_who_must_name_it(tmp_path):
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "index.csv"
    file.write_text("file,label,Licence,commit,size\na\\b.png,REAL,CC BY,77,9\nc.png,FAKE,,,9\n")
    found = read_origins(file, beneath=tmp_path)
    assert found.set_index("path").to_dict("index") == {
        "deep/a/b.png": {"licence": "CC BY", "commit": "77"},
        "deep/c.png": {"licence": "", "commit": ""},
    }
