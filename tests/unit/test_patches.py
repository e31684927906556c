"""Two views of a picture: which patches vote, what comes of it, and how the page shows it."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cifake_lib.detector import ModelVerdict, Verdict
from cifake_lib.patches import MOST, SIDE, PatchVote, patch_html, vote

COLOURS = {"red": (180, 60, 60), "blue": (60, 60, 180)}


class Redness:
    """A detector for which red pictures are FAKE."""

    input_size = 32
    crop = "centre"
    sees_photographs = False

    def __init__(self):
        self.asked = []

    def predict(self, images, *, several_views=True):
        assert not several_views
        self.asked.append(list(images))
        reds = [float(np.asarray(image)[..., 0].mean()) / 255 for image in images]
        return [Verdict(red, {"resnet50": ModelVerdict(red)}) for red in reds]


def picture(width=320, height=192, *, left="red", right="blue", flat=0):
    """Two textured halves, and `flat` pixels at the top that are nearly of one colour."""
    pixels = np.empty((height, width, 3))
    pixels[:, : width // 2], pixels[:, width // 2 :] = COLOURS[left], COLOURS[right]
    noise = np.random.default_rng(0).normal(scale=20, size=pixels.shape)
    noise[:flat] /= 20
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


class PhotoRedness(Redness):
    """The same, as a detector of photographs."""

    input_size = 224
    sees_photographs = True


def subject(image, *, name="a.jpg", p_fake=0.9, word="FAKE", detector=Redness):
    analysis = SimpleNamespace(
        verdict=ModelVerdict(p_fake), outside=None, record=SimpleNamespace(verdict=word)
    )
    analyst = SimpleNamespace(detector=detector())
    return SimpleNamespace(image=image, name=name, analysis=analysis, analyst=analyst)


def shown(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&nbsp;", " ").split())


def map_of(html):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, re.S)[0])


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((64, 64), (2, 2)),
        ((100, 100), (3, 3)),
        ((4000, 3000), (8, 6)),
        ((3000, 4000), (6, 8)),
        ((65, 1001), (2, 24)),
        ((3000, 64), (24, 2)),
        ((500, 500), (6, 8)),
    ],
)
def test_patches_are_spread_evenly_and_do_not_overlap(size, grid):
    votes = vote(Redness(), Image.new("RGB", size))
    assert (votes.columns, votes.rows) == grid and len(votes.corners) <= MOST
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in votes.corners})
        steps = np.diff(starts)
        assert starts[0] >= 0 and starts[-1] + SIDE <= size[axis]
        assert steps.min() >= SIDE and steps.max() - steps.min() <= 1
        assert abs(starts[0] - (size[axis] - SIDE - starts[-1])) <= 1
    assert len(set(votes.corners)) == grid[0] * grid[1]


def test_each_patch_is_cut_out_at_the_scale_of_the_picture_and_judged_in_one_call():
    detector, image = Redness(), picture()
    votes = vote(detector, image)
    (asked,) = detector.asked
    assert len(asked) == len(votes.corners) == 48
    left, top = votes.corners[10]
    assert (asked[10] == np.array(image)[top : top + SIDE, left : left + SIDE]).all()
    for (left, _), p_fake in zip(votes.corners, votes.p_fake, strict=True):
        assert p_fake > 0.5 if left < 160 else p_fake < 0.5
    assert votes.share_fake == 0.5


@pytest.mark.parametrize(
    ("size", "side", "grid"),
    [
        ((4000, 3000), 224, (4, 4)),
        ((450, 450), 224, (2, 2)),
        ((1200, 700), 224, (5, 3)),
        ((300, 200), 100, (3, 2)),
    ],
)
def test_patches_for_a_model_of_photographs_are_as_large_as_it_looks_at(size, side, grid):
    votes = vote(PhotoRedness(), picture(*size))
    assert (votes.columns, votes.rows, votes.side) == (*grid, side)
    starts = sorted({left for left, _ in votes.corners})
    assert np.diff(starts).min() >= side and starts[-1] + side <= size[0]
    said = shown(patch_html(subject(picture(*size), detector=PhotoRedness)))
    assert "Shrunk to 224 × 224, and parts of it" in said and "no vote of cut-outs was" in said
    assert f"native {side} × {side} patches" in said
    assert "as a whole the picture looks" in said or "Both views lean" in said


def test_flat_patches_have_no_vote():
    detector = Redness()
    votes = vote(detector, picture(flat=64))
    assert votes.p_fake[: 2 * votes.columns] == (None,) * 16
    assert None not in votes.p_fake[2 * votes.columns :]
    assert len(detector.asked[0]) == len(votes.votes) == 32


def test_a_picture_of_one_colour_has_no_vote_at_all():
    votes = vote(Redness(), Image.new("RGB", (200, 200), "red"))
    assert votes.votes == () and votes.share_fake is None and votes.together is None


@pytest.mark.parametrize("size", [(63, 500), (500, 63), (32, 32)])
def test_a_small_picture_has_one_view(size):
    with pytest.raises(ValueError, match="at least 64"):
        vote(Redness(), Image.new("RGB", size))
    one = subject(Image.new("RGB", size))
    said = shown(patch_html(one))
    assert f"{size[0]} × {size[1]} pixels" in said and "at least 64 on each side" in said
    assert one.analyst.detector.asked == []


@pytest.mark.parametrize(
    ("p_fake", "together", "share"),
    [
        ((0.9, 0.9, 0.1, 0.1), 0.5, 0.5),
        ((0.999, 0.4, 0.4, 0.4), 0.806, 0.25),
        ((0.2, None, None, 0.2), 0.2, 0.0),
        ((1.0, 1.0, 0.0, 0.0), 0.5, 0.5),
    ],
)
def test_votes_are_averaged_as_logits(p_fake, together, share):
    votes = PatchVote(2, 2, 32, ((0, 0), (32, 0), (0, 32), (32, 32)), p_fake)
    assert votes.together.p_fake == pytest.approx(together, abs=0.001)
    assert votes.share_fake == share


def test_both_views_are_shown_side_by_side_and_their_disagreement_is_told():
    said = shown(patch_html(subject(picture(left="blue"))))
    assert said.startswith("The two views disagree: shrunk the picture looks FAKE")
    assert "its patches look REAL" in said and "rely on neither" in said
    assert "Shrunk to 32 × 32, as the training images were ◆ FAKE 90 %" in said
    assert re.search(r"Vote of 48 native 32 × 32 patches ● REAL \d\d %", said)
    assert "0 of 48 patches look FAKE, 48 REAL" in said


def test_agreement_is_no_proof():
    said = shown(patch_html(subject(picture(right="red"))))
    assert said.startswith("Both views lean to FAKE.") and "no proof" in said


def test_the_second_view_is_called_what_it_is():
    said = shown(patch_html(subject(picture())))
    assert "A lean, not a verdict" in said and "near chance" in said
    assert "were not measured on any" in said


def test_an_uncertain_verdict_only_leans():
    page = subject(picture(), word="UNCERTAIN")
    assert "The verdict above is UNCERTAIN; this is where it leans" in shown(patch_html(page))
    assert "UNCERTAIN" not in shown(patch_html(subject(picture())))


def test_the_map_shows_every_patch_by_colour_and_shape():
    svg = map_of(patch_html(subject(picture(flat=64))))
    kinds = [rect.get("class") for rect in svg.iter("rect")]
    assert [kinds.count(kind) for kind in ("cf-FAKE", "cf-REAL", "cf-flat")] == [16, 16, 16]
    shapes = {}
    for cell in svg.iter("g"):
        shapes.setdefault(cell.find("rect").get("class"), set()).add(cell.find("path").get("d"))
    assert len(set.union(*shapes.values())) == len(shapes) == 3
    titles = [title.text for title in svg.iter("title")]
    assert titles[0] == "row 1, column 1: nearly of one colour"
    assert re.fullmatch(r"row 3, column 1: FAKE \d\d %", titles[16])
    assert "16 of 32 patches look FAKE, 16 REAL; 16 nearly of one colour" in svg.get("aria-label")


def test_the_map_covers_the_picture():
    svg = map_of(patch_html(subject(picture(1000, 700))))
    assert svg.get("viewBox") == "0 0 1000 700"
    last = list(svg.iter("rect"))[-1]
    assert float(last.get("x")) + float(last.get("width")) == pytest.approx(1000, abs=0.2)
    assert float(last.get("y")) + float(last.get("height")) == pytest.approx(700, abs=0.2)


def test_how_little_of_a_large_picture_is_judged_is_told():
    assert "cover 0.4 % of the picture" in shown(patch_html(subject(picture(4000, 3000))))
    assert "cover 80 % of the picture" in shown(patch_html(subject(picture())))


def test_without_any_vote_there_is_no_second_verdict():
    said = shown(patch_html(subject(Image.new("RGB", (200, 200), "red"))))
    assert said.startswith("All patches are nearly of one colour")
    assert "A lean" not in said and "Both views" not in said


def test_file_names_cannot_inject_markup():
    page = patch_html(subject(picture(), name='"><script>alert(1)</script>'))
    assert "<script>" not in page
    assert '"><script>alert(1)</script>' in map_of(page).get("aria-label")
