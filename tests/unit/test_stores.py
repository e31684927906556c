"""Folders here and elsewhere: what is listed in them, and how it is read."""

import zipfile

import pytest

stores = pytest.importorskip("cifake_lib.stores", exc_type=ImportError)


def names(store):
    return ["/".join(path.rsplit("/", 2)[-2:]) for path, _ in store.images()]


def test_images_are_listed_by_name_with_their_size_and_nothing_hidden(archive):
    store = stores.Store(str(archive))
    assert sorted(names(store)) == ["a/3.webp", "b/1 [x].JPG", "b/2.png"]
    assert [size for _, size in store.images()] == [len(name) for name in names(store)]
    for path, _ in store.images():  # Brackets in a name are no pattern.
        assert store.read(path).decode().endswith(path.rsplit("/", 1)[-1])


def test_another_file_system_is_listed_and_read_alike(archive, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for file in archive.rglob("*.*"):
            packed.write(file, file.relative_to(archive))
    store = stores.Store(f"zip://::{tmp_path / 'all.zip'}")
    found = dict(store.images())
    assert sorted(found) == ["a/3.webp", "b/1 [x].JPG", "b/2.png"]
    assert store.read("a/3.webp") == b"a/3.webp"


def test_the_listing_is_cut_into_files_and_written_anew(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "LISTED_TOGETHER", 2)
    out = stores.Store(str(tmp_path / "out"))
    assert stores.write_listing(stores.Store(str(archive)), out) == 2
    (archive / "b" / "2.png").unlink()
    assert stores.write_listing(stores.Store(str(archive)), out) == 1
    assert [file.name for file in (tmp_path / "out" / "listing").iterdir()] == ["000000.parquet"]
