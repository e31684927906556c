"""Zips of strangers: every image comes out, and nothing else costs more than a sentence."""

import io
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from cifake_lib import unpacking
from cifake_lib.images import MAX_BYTES, decode_image
from cifake_lib.unpacking import Limits, Member, members, shown_name


def picture(seed=0, file_format="PNG"):
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, file_format)
    return buffer.getvalue()


def make_zip(*files, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def unpack(content, name="holiday.zip", **limits):
    return list(members(name, content, limits=Limits(**limits)))


def sentences(found):
    return [member.error for member in found if member.content is None]


def test_a_zip_gives_its_images_in_the_order_of_their_paths():
    files = [(f"{name}.png", picture(seed)) for seed, name in enumerate(["b", "a/z", "a/b"])]
    found = unpack(make_zip(*files))
    assert [member.name for member in found] == ["a/b.png", "a/z.png", "b.png"]
    assert {member.name: member.content for member in found} == dict(files)
    assert sentences(found) == []


def test_stored_files_come_out_as_well():
    (found,) = unpack(make_zip(("a.jpg", picture(file_format="JPEG")), method=zipfile.ZIP_STORED))
    assert found.content == picture(file_format="JPEG")


@pytest.mark.parametrize("content", [picture(), b"", b"Dear reader", b"PK", bytes(40)])
def test_what_is_no_zip_passes_as_it_is(content):
    assert unpack(content, "any.zip") == [Member("any.zip", content)]


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_an_image_with_a_zip_behind_it_is_an_image(file_format):
    both = picture(file_format=file_format) + make_zip(("inner.png", picture(1)))
    assert zipfile.is_zipfile(io.BytesIO(both))
    assert unpack(both) == [Member("holiday.zip", both)]


def test_a_zip_that_unpacks_itself_is_a_zip():
    (found,) = unpack(b"MZ" + bytes(100) + make_zip(("a.png", picture())))
    assert found.content == picture()


def test_what_systems_leave_behind_is_passed_over_silently():
    left = ("__MACOSX/._a.png", "a/.DS_Store", "a/Thumbs.db", "a/._b.png", "__macosx/b.png")
    content = make_zip(("a/", b""), ("a/a.png", picture()), *[(name, picture()) for name in left])
    assert [member.name for member in unpack(content, entries=1)] == ["a/a.png"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("../../etc/passwd.png", "etc/passwd.png"),
        ("/photos/a.png", "photos/a.png"),
        ("C:\\photos\\..\\a.png", "photos/a.png"),
        ("train/REAL/1.png", "train/REAL/1.png"),
        ("evil\u202egnp.exe\n.png", "evil gnp.exe .png"),
        ("..", "unnamed file"),
        ("x" * 5000 + ".png", "x" * 196 + ".png"),
        ("<b>.png", "<b>.png"),
        ("\ud800.png", ".png"),
    ],
)
def test_a_path_is_only_text(path, shown):
    assert shown_name(path) == shown


def test_paths_that_lead_outside_are_shown_without_it():
    found = unpack(make_zip(("/photos/../../a.png", picture()), ("..\\b.png", picture(1))))
    assert sorted(member.name for member in found) == ["b.png", "photos/a.png"]


def test_files_that_are_no_images_share_a_sentence():
    content = make_zip(("a.png", picture()), ("notes.txt", b"Hello"), ("x/list.csv", b"1;2"))
    image, rest = unpack(content)
    assert image == Member("a.png", picture())
    assert rest.error == "holiday.zip also holds 2 other files, left out as no image: notes.txt …"


def test_an_office_document_gets_one_sentence_and_its_pictures_are_found():
    parts = [("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<document/>")]
    (only,) = unpack(make_zip(*parts), "report.docx")
    assert only.content is None
    assert only.error.startswith("report.docx holds no image but 2 other files, left out")
    found = unpack(make_zip(*parts, ("word/media/image1.png", picture())), "report.docx")
    assert [member.name for member in found] == ["word/media/image1.png", "report.docx"]


def test_a_zip_of_nothing_says_so():
    assert sentences(unpack(make_zip())) == ["holiday.zip holds no image."]
    assert sentences(unpack(make_zip(("a/", b"")))) == ["holiday.zip holds no image."]


def test_what_is_called_an_image_but_is_none_gets_a_row_of_its_own():
    found = unpack(make_zip(("zeros.jpg", bytes(500)), ("empty.png", b""), ("b.heic", b"?")))
    assert [(m.name, m.content) for m in found] == [
        ("b.heic", b"?"),
        ("empty.png", b""),
        ("zeros.jpg", bytes(500)),
    ]


def test_a_zip_in_a_zip_is_refused_in_words():
    inner = make_zip(("b.png", picture(1)))
    nested, image = unpack(make_zip(("a.zip", inner), ("z.png", picture())))
    assert "a.zip is a zip inside a zip" in nested.error and nested.content is None
    assert image.content == picture()


def test_an_encrypted_file_is_refused_in_words_and_the_rest_goes_on():
    content = bytearray(make_zip(("a.png", picture()), ("b.png", picture(1))))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    locked, image = unpack(bytes(content))
    assert locked.content is None and "a.png is encrypted" in locked.error
    assert image == Member("b.png", picture(1))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_decompress_without_a_bound_are_refused(method):
    content = make_zip(("a.png", picture() + bytes(10**7)), method=method)
    (found,) = unpack(content)
    assert found.content is None and "unusual way" in found.error


@pytest.mark.parametrize("cut", [30, 200, -10])
def test_a_zip_cut_off_is_one_sentence(cut):
    (found,) = unpack(make_zip(("a.png", picture()), ("b.png", picture(1)))[:cut])
    assert found.content is None
    assert found.error.startswith("holiday.zip is a damaged or incomplete zip")


def test_a_damaged_file_is_one_row_and_the_rest_goes_on():
    content = bytearray(make_zip(("a.png", picture()), ("b.png", picture(1)), ("c.png", picture())))
    middle = content.index(b"b.png") + 1000
    content[middle : middle + 50] = bytes(50)
    found = unpack(bytes(content))
    assert [member.name for member in found] == ["a.png", "b.png", "c.png"]
    assert sentences(found) == ["b.png is damaged in its zip: please make the zip again."]


def test_a_wrong_local_header_is_one_row():
    content = make_zip(("a.png", picture()), ("b.png", picture(1)))
    place = content.index(b"b.png")
    damaged, image = content[:place] + b"x.png" + content[place + 5 :], Member("a.png", picture())
    found = unpack(damaged)
    assert found[0] == image and "b.png is damaged in its zip" in found[1].error


def test_a_file_over_the_limit_is_a_row_and_is_not_decompressed():
    content = make_zip(("big.png", picture() + bytes(MAX_BYTES)), ("small.png", picture()))
    limits = Limits()
    large, small = members("holiday.zip", content, limits=limits)
    assert large.content is None
    assert "big.png is too large: expected at most 30 MB, received 30.0 MB" in large.error
    assert small.content == picture() and limits.used_bytes == len(picture())


def test_a_stated_size_that_lies_lets_nothing_through():
    """The directory says 100 bytes; 40 MB would come out."""
    content = bytearray(make_zip(("bomb.png", picture() + bytes(40 * 2**20))))
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + place, 100)
    tracemalloc.start()
    found = unpack(bytes(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sentences(found) == ["bomb.png is damaged in its zip: please make the zip again."]
    assert peak < 5 * 2**20


def test_the_total_is_measured_and_ends_the_unpacking():
    files = [(f"{number}.png", picture() + bytes(10**6)) for number in range(9)]
    found = unpack(make_zip(*files), total_bytes=5 * 2**20)
    assert [member.name for member in found[:-1]] == [f"{number}.png" for number in range(5)]
    assert "holiday.zip unpacks to too much: expected at most 5 MB" in found[-1].error


def test_damaged_files_count_towards_the_total():
    content = bytearray(make_zip(*[(f"{n}.png", picture() + bytes(10**6)) for n in range(9)]))
    place = 0
    while (place := content.find(b"PK\x01\x02", place + 1)) > 0:
        content[place + 16] ^= 1  # of the checksum
    found = unpack(bytes(content), total_bytes=5 * 2**20)
    assert len(found) == 6 and "unpacks to too much" in found[-1].error
    assert all("damaged" in member.error for member in found[:-1])


def test_too_many_files_are_cut_in_words():
    content = make_zip(*[(f"{number}.png", picture()) for number in range(7)])
    found = unpack(content, entries=5)
    assert [member.name for member in found[:-1]] == [f"{number}.png" for number in range(5)]
    assert found[-1].error == (
        "holiday.zip holds too many files: expected at most 5 in zips at once; the rest was "
        "left out."
    )


def test_the_limits_hold_for_all_zips_of_a_choice_together():
    limits, content = Limits(entries=3), make_zip(("a.png", picture()), ("b.png", picture(1)))
    found = [m for name in "xyz" for m in members(f"{name}.zip", content, limits=limits)]
    assert [member.name for member in found] == ["a.png", "b.png", "a.png", "y.zip", "z.zip"]
    assert all("too many files" in sentence for sentence in sentences(found))


def test_a_directory_of_a_million_entries_is_not_read(monkeypatch):
    content = make_zip(("a.png", picture())) + b"PK\x01\x02" * 20_001
    monkeypatch.setattr(unpacking.zipfile, "ZipFile", None)  # would be an error of its own
    (found,) = unpack(content)
    assert "expected at most 1,000 in zips at once; none was taken" in found.error


def test_only_one_file_is_held_at_a_time():
    content = make_zip(*[(f"{n:02}.bmp", b"BM" + bytes(8 * 2**20)) for n in range(20)])
    tracemalloc.start()
    assert sum(len(member.content) for member in members("a.zip", content, limits=Limits())) > 10**8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


def test_mutated_zips_end_in_members_or_sentences():
    files = [("a.png", picture()), ("b/c.jpg", picture(file_format="JPEG")), ("d.txt", b"text")]
    whole = make_zip(*files)
    random = np.random.default_rng(5)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 6):
            content[place] = random.integers(0, 256)
        for member in unpack(bytes(content)):
            assert (member.content is None) == bool(member.error)
            assert member.error == "" or re.search(r"[a-z]", member.error)


def test_what_comes_out_decodes():
    for member in unpack(make_zip(("a.png", picture()), ("b.webp", picture(1, "WEBP")))):
        assert decode_image(member.content, name=member.name).size == (32, 32)


def test_files_are_counted_before_they_are_read():
    zipped = make_zip(("a.png", picture()), ("letter.txt", b"x"), ("__MACOSX/a.png", b"x"))
    assert unpacking.count(zipped, limits=Limits()) == 2
    assert unpacking.count(picture(), limits=Limits()) == 1
    assert unpacking.count(zipped[: len(zipped) // 2], limits=Limits()) == 1
