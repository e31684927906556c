"""From a script: files, folders and zips in, one row each out, whatever is wrong with some."""

import csv
import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from cifake_lib import detect
from cifake_lib.analyst import Analyst
from cifake_lib.detector import ModelsMissing, ModelVerdict, Verdict
from cifake_lib.routing import Router


class Redness:
    """A detector for which red pictures are FAKE."""

    input_size, crop, runs, models = 32, "centre", {}, {}

    def __init__(self):
        self.asked = []

    def predict(self, images):
        self.asked.append(len(images))
        reds = [float(np.asarray(image)[..., 0].mean()) / 255 for image in images]
        return [Verdict(red, {"resnet50": ModelVerdict(red)}) for red in reds]


@pytest.fixture
def router(monkeypatch):
    made = Router(Analyst(Redness()))
    monkeypatch.setattr(Router, "load", lambda **_: made)
    return made


def picture(red=255, size=(40, 30), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two pictures, a broken one, a text, and a zip of two pictures and a text."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "red.png").write_bytes(picture())
    (tmp_path / "in" / "black.jpg").write_bytes(picture(0, kind="JPEG"))
    (tmp_path / "in" / "broken.png").write_bytes(picture()[:40])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / ".hidden.png").write_bytes(picture())
    with zipfile.ZipFile(tmp_path / "in" / "two.zip", "w") as archive:
        archive.writestr("b.png", picture(10))
        archive.writestr("a.png", picture(250))
        archive.writestr("c.txt", "no image")
    return tmp_path / "in"


def short(records, folder):
    return [
        (record.name.removeprefix(f"{folder.as_posix()}/"), record.verdict) for record in records
    ]


def test_folders_and_zips_are_gone_through_in_the_order_of_names(router, folder):
    found = list(detect.examine([folder, folder / "black.jpg"]))
    assert short(found, folder) == [
        ("black.jpg", "REAL"),
        ("broken.png", ""),
        ("deep/red.png", "FAKE"),
        ("two.zip/a.png", "FAKE"),
        ("two.zip/b.png", "REAL"),
        ("two.zip", ""),
        ("black.jpg", "REAL"),
    ]
    assert "also holds 1 other file" in found[5].error and "c.txt" in found[5].error
    assert found[2].sha256 != found[3].sha256 and (found[2].width, found[2].height) == (40, 30)
    again = list(detect.examine([str(folder), str(folder / "black.jpg")], router=router))
    assert short(again, folder) == short(found, folder)


def test_many_pictures_are_judged_together_and_order_is_kept(router, tmp_path):
    for number in range(150):
        content = picture(number) if number % 50 else b"no image"
        (tmp_path / f"{number:03}.png").write_bytes(content)
    found = list(detect.examine([tmp_path]))
    assert [record.name[-7:-4] for record in found] == [f"{number:03}" for number in range(150)]
    assert [number for number, record in enumerate(found) if record.error] == [0, 50, 100]
    asked = router.small.detector.asked
    assert sum(asked) == 147 and len(asked) == 3


def test_nothing_is_judged_when_a_path_is_wrong(router, folder):
    with pytest.raises(FileNotFoundError, match="absent"):
        next(detect.examine([folder, folder / "absent"]))
    assert router.small.detector.asked == []


def test_a_file_that_is_too_large_is_not_read(router, tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(31 * 2**20)
    (record,) = detect.examine([tmp_path])
    assert "too large" in record.error and "31 MB" in record.error


def test_the_command_prints_a_line_each_and_says_that_some_were_unreadable(router, folder, capsys):
    assert detect.main([str(folder)]) == detect.SOME_UNREADABLE == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert (
        lines[0].startswith("REAL") and lines[0].endswith("black.jpg") and "p_fake 0.0" in lines[0]
    )
    assert lines[1].startswith("unreadable") and "broken.png" in lines[1]
    assert "6 files: 2 REAL, 2 FAKE, 0 UNCERTAIN, 2 unreadable" in err
    assert detect.main([str(folder / "black.jpg")]) == detect.ALL_READ == 0


def test_tables_and_records_hold_every_row(router, folder, capsysbinary, tmp_path):
    target = tmp_path / "out.csv"
    assert detect.main([str(folder), "--csv", str(target), "--json", "-"]) == 1
    rows = list(csv.DictReader(target.read_text("utf-8-sig").splitlines()))
    found = json.loads(capsysbinary.readouterr().out)
    names = [image["name"] for image in found["images"]]
    assert [row["name"] for row in rows] == names and len(names) == 6
    assert [row["verdict"] for row in rows] == ["REAL", "", "FAKE", "FAKE", "REAL", ""]
    assert "provenance" in found and found["not_proof"]


def test_the_page_shows_every_file_and_obeys_no_file_name(router, folder, tmp_path):
    (folder / "<img src=x onerror=alert(1)>.png").write_bytes(picture(120))
    page = tmp_path / "report.html"
    detect.main([str(folder), "--html", str(page)])
    html = page.read_text("utf-8")
    assert "<img src=x" not in html and "&lt;img src=x" in html
    assert html.count('<img src="data:image/') == 5 and html.count("<bdi>") == 7
    assert "3 REAL</li>" in html and "2 unreadable</li>" in html
    assert "no proof" in html.lower() or "not proof" in html
    assert not re.search(r"""(src|href)=["']?https?:""", html)


@pytest.mark.parametrize("kind", ["path", "model", "target"])
def test_what_stops_the_command_is_a_sentence_and_an_exit_code(
    kind, router, folder, monkeypatch, capsys
):
    arguments = [str(folder), "--csv", str(folder / "absent" / "out.csv")]
    expected = detect.REFUSED
    if kind == "path":
        arguments = [str(folder / "absent")]
    if kind == "model":

        def missing(**_):
            raise ModelsMissing("There is no trained model yet.")

        monkeypatch.setattr(Router, "load", missing)
        expected = detect.NO_MODEL
    assert detect.main(arguments) == expected
    said = capsys.readouterr().err
    assert ("no trained model" if kind == "model" else "absent") in said and "Traceback" not in said


def test_an_unknown_threshold_is_refused(router, folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        detect.main([str(folder), "--threshold", "lucky"])
    assert stopped.value.code == 2 and "balanced" in capsys.readouterr().err
