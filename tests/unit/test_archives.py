"""Archives are unpacked once, completely or not at all, and only below the target."""

import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile

import pytest

from cifake_lib import archives
from cifake_lib.archives import ArchiveError, unpack

FILES = {"train/REAL/a.jpg": b"a" * 5000, "train/FAKE/b.jpg": b"b" * 7000}


def make_zip(path, files=FILES, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files=FILES, *, mode="w", members=()):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def tar_member(name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_refused(archive, tmp_path, reason, **options):
    """The archive is refused by name, and nothing is left behind in or beside the target."""
    place = tmp_path / "place"
    with pytest.raises(ArchiveError, match=reason) as caught:
        unpack(archive, place / "target", **options)
    assert str(archive) in str(caught.value)
    assert not place.exists() or not list(place.iterdir())


@pytest.mark.parametrize(
    ("name", "mode"),
    [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.tar.xz", "w:xz")],
)
def test_tar_of_any_compression(tmp_path, name, mode):
    folder = tar_member("train/EMPTY", tarfile.DIRTYPE)
    archive = make_tar(tmp_path / name, mode=mode, members=[folder])
    assert content(unpack(archive, tmp_path / "target")) == FILES


def test_zip_and_its_name_does_not_matter(tmp_path):
    archive = make_zip(tmp_path / "download")
    target = unpack(archive, tmp_path / "deep" / "target")
    assert content(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_second_call_does_not_unpack_again(tmp_path):
    archive = make_zip(tmp_path / "x.zip")
    target = unpack(archive, tmp_path / "target")
    (target / "mark").touch()
    archive.unlink()
    assert unpack(archive, target) == target
    assert (target / "mark").is_file()


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "\\\\host\\evil", ".."]
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_path_outside_the_target_is_refused(tmp_path, name, make):
    archive = make(tmp_path / "x", {"good.jpg": b"1", name: b"2"})
    assert_refused(archive, tmp_path, "outside its folder")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "member",
    [
        tar_member("l", tarfile.SYMTYPE, "/etc"),
        tar_member("l", tarfile.LNKTYPE, "train/REAL/a.jpg"),
        tar_member("d", tarfile.CHRTYPE),
        tar_member("d", tarfile.BLKTYPE),
        tar_member("d", tarfile.FIFOTYPE),
    ],
    ids=["symbolic link", "hard link", "character device", "block device", "pipe"],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, member):
    assert_refused(make_tar(tmp_path / "x.tar", members=[member]), tmp_path, "link or device")


def test_links_in_a_zip_are_refused(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        file.writestr(link, "/etc")
    assert_refused(archive, tmp_path, "holds a link")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_size_limit_counts_all_files_together(tmp_path, make):
    archive = make(tmp_path / "x")
    assert_refused(archive, tmp_path, "more than", max_bytes=11_999)
    assert content(unpack(archive, tmp_path / "target", max_bytes=12_000)) == FILES


def test_a_bomb_stops_at_the_limit(tmp_path):
    archive = make_zip(tmp_path / "bomb.zip", {"zeros": bytes(50 * 2**20)})
    assert archive.stat().st_size < 100_000
    assert_refused(archive, tmp_path, "unpacks to more than 0.00 GiB", max_bytes=2**20)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    assert_refused(make_zip(tmp_path / "x.zip"), tmp_path, "more than 1 files")


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(2**20)})
    data = bytearray(archive.read_bytes())
    # Uncompressed size in the central directory: at 24 of its record.
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10)
    archive.write_bytes(data)
    assert_refused(archive, tmp_path, "could not be unpacked")


@pytest.mark.parametrize("where", [0.3, 0.6])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (make_zip, {}),
        (make_zip, {"compression": zipfile.ZIP_STORED}),
        (make_tar, {"mode": "w:gz"}),
        (make_tar, {"mode": "w:bz2"}),
        (make_tar, {"mode": "w:xz"}),
    ],
    ids=["zip", "stored zip", "gz", "bz2", "xz"],
)
def test_damaged_archives_are_refused(tmp_path, make, options, where):
    files = {f"{i}": os.urandom(20_000) for i in range(5)}
    archive = make(tmp_path / "x", files, **options)
    data = bytearray(archive.read_bytes())
    start = int(where * len(data))
    data[start : start + 400] = bytes(byte ^ 0x5A for byte in data[start : start + 400])
    archive.write_bytes(data)
    assert_refused(archive, tmp_path, "could not be unpacked|Expected a zip or tar")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_truncated_downloads_are_refused(tmp_path, mode):
    archive = make_tar(
        tmp_path / "x.tar", {f"{i}": os.urandom(20_000) for i in range(5)}, mode=mode
    )
    archive.write_bytes(archive.read_bytes()[:50_000])
    # Of bz2 not even the first block can be read, so that it does not look like an archive at all.
    reason = "Expected a zip or tar" if mode == "w:bz2" else "could not be unpacked"
    assert_refused(archive, tmp_path, reason)


def test_truncated_zip_and_other_files_are_no_archives(tmp_path):
    archive = make_zip(tmp_path / "x.zip")
    archive.write_bytes(archive.read_bytes()[:-30])
    assert_refused(archive, tmp_path, "Expected a zip or tar archive")
    (tmp_path / "notes.txt").write_text("no archive")
    assert_refused(tmp_path / "notes.txt", tmp_path, "Expected a zip or tar archive")
    assert_refused(tmp_path / "absent.zip", tmp_path, "Expected a zip or tar archive")


def test_encrypted_zip_is_refused(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"secret"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag in the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and in the central directory
    archive.write_bytes(data)
    assert_refused(archive, tmp_path, "password required")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interruption_leaves_nothing(tmp_path, monkeypatch, error):
    archive, safe_name, seen = make_zip(tmp_path / "x.zip"), archives._safe_name, []

    def interrupt_at_second(archive, name):
        seen.append(name)
        if len(seen) == 2:
            raise error
        return safe_name(archive, name)

    monkeypatch.setattr(archives, "_safe_name", interrupt_at_second)
    with pytest.raises((KeyboardInterrupt, ArchiveError)):
        unpack(archive, tmp_path / "place" / "target")
    assert len(seen) == 2
    assert not list((tmp_path / "place").iterdir())
    monkeypatch.undo()
    assert content(unpack(archive, tmp_path / "place" / "target")) == FILES


def test_a_killed_process_leaves_nothing_that_looks_complete(tmp_path):
    archive = make_zip(tmp_path / "x.zip")
    script = """if True:
        import os, pathlib, sys
        from cifake_lib import archives
        real, seen = archives._safe_name, []
        def die_at_second(archive, name):
            seen.append(name)
            return real(archive, name) if len(seen) == 1 else os._exit(9)
        archives._safe_name = die_at_second
        archives.unpack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    """
    target = tmp_path / "place" / "target"
    killed = subprocess.run([sys.executable, "-c", script, archive, target], check=False)
    assert killed.returncode == 9
    assert not target.exists()
    assert content(unpack(archive, target)) == FILES


def test_a_process_that_finished_first_wins(tmp_path, monkeypatch):
    archive, target, write = make_zip(tmp_path / "x.zip"), tmp_path / "target", []
    original = archives._write_members

    def finish_meanwhile(*arguments):
        original(*arguments)
        target.mkdir()
        (target / "theirs").touch()
        write.append(arguments)

    monkeypatch.setattr(archives, "_write_members", finish_meanwhile)
    assert content(unpack(archive, target)) == {"theirs": b""}
    assert write
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "x.zip"]
