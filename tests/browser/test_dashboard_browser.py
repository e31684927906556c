"""What a visitor of the served dashboard sees and does."""

import base64
import csv
import hashlib
import io
import itertools
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from serving import READY, SCREENSHOTS, visit

from cifake_lib.paths import released_dir

expect = pytest.importorskip("playwright.sync_api").expect

MODELS = ("baseline_cnn", "tuned_cnn", "resnet50")


@pytest.fixture
def picture(tmp_path):
    """Make image files: `picture("a.png", seed=1)` returns the path of a new one."""

    def make(name, *, seed=0, size=(400, 300)):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        path = tmp_path / name
        Image.fromarray(noise).resize(size).save(path)
        return path

    return make


def choose(page, *paths):
    """Choose files; the input is never in the page, so the chooser is caught."""
    with page.expect_file_chooser() as chooser:
        page.locator(".cf-choose").click()
    chooser.value.set_files(paths)


def wait_for_images(page, count):
    """Wait until so many images have a verdict and the newest is shown."""
    summary = re.compile(rf"^{count} image")
    expect(page.locator(".cf-summary")).to_have_text(summary, timeout=30_000)
    page.locator(".cf-card .cf-number", has_text=f"#{count}").wait_for()


def wait_for_rows(page, *names):
    """Wait until the table of the visit shows these names, from the top."""
    expect(page.locator(".cf-history tbody .cf-open")).to_have_text(names, timeout=10_000)


def open_section(page, words):
    """Open a section of evidence, and return it when it is computed."""
    section = page.locator(".cf-sections .cf-details", has_text=words)
    section.locator("summary").click()
    body = section.locator(".cf-details-body:not(:empty):not(:has(.cf-spinner))")
    body.wait_for(timeout=60_000)
    return body


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(300)


def message(page, words):
    found = page.locator(".cf-message", has_text=words)
    found.wait_for(timeout=30_000)
    return found


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def models_of(card):
    return [row.get_attribute("data-model") for row in card.locator(".cf-model").all()]


def test_a_small_upload_gets_the_verdict_of_every_model_of_small_images(page, picture):
    choose(page, picture("icon.png", size=(48, 40)))
    wait_for_images(page, 1)
    card = page.locator(".cf-card")
    assert "icon.png" in card.inner_text() and models_of(card) == list(MODELS)
    for row in card.locator(".cf-model").all():
        assert row.locator("b").inner_text() in ("REAL", "FAKE") and "%" in row.inner_text()
    # Preview and what the models see; both must have arrived as images.
    widths = card.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths == [48, 32]


def test_a_photograph_is_judged_by_its_model_and_the_others_are_a_lesson(page, picture):
    choose(page, picture("holiday.jpg"))
    wait_for_images(page, 1)
    card = page.locator(".cf-card")
    assert card.locator(".cf-verdict b").inner_text() in ("REAL", "FAKE", "UNCERTAIN")
    assert "The model of photographs" in card.locator(".cf-together").inner_text()
    assert models_of(card) == ["photo_resnet50", *MODELS]
    beside = card.locator(".cf-beside")
    assert models_of(beside) == list(MODELS)
    assert "without a say" in beside.inner_text() and "guessing ranks 50 %" in beside.inner_text()
    widths = card.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths == [400, 224]
    screenshot(page, "upload-1280")
    fan = open_section(page, "Does the verdict hold?")
    assert "12 changes" in fan.inner_text()
    heat = open_section(page, "Heat maps")
    assert "ResNet-50 for photographs" in heat.inner_text() and heat.locator("img").count() >= 1
    assert "belong to others" in open_section(page, "most similar training").inner_text()
    page.set_viewport_size({"width": 1280, "height": 3000})
    screenshot(page, "photograph-1280")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_between_the_sizes_no_verdict_is_given(page, picture):
    choose(page, picture("middle.png", size=(100, 90)))
    wait_for_images(page, 1)
    card = page.locator(".cf-card")
    assert card.locator(".cf-verdict b").inner_text() == "UNCERTAIN"
    assert "too small for that of photographs" in " ".join(
        card.locator(".cf-notes").inner_text().split()
    )
    assert models_of(card) == [*MODELS, "photo_resnet50"]


def test_a_text_file_gets_a_sentence(page, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear reader")
    choose(page, tmp_path / "letter.txt")
    assert "letter.txt is not an image" in message(page, "letter.txt").inner_text()
    assert page.locator(".cf-card").count() == 0


def test_a_file_over_the_limit_gets_a_sentence_and_the_page_goes_on(page, tmp_path, picture):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(31 * 2**20)
    choose(page, tmp_path / "huge.png")
    assert "expected at most 30 MB, received 31.0 MB" in message(page, "huge.png").inner_text()
    choose(page, picture("after.png"))
    wait_for_images(page, 1)
    assert page.locator(".cf-message").count() == 0


def test_a_file_just_under_the_limit_arrives(page, tmp_path):
    side = 3100  # 29 MB of BMP, far above the 10 MB that a server takes unconfigured
    Image.new("RGB", (side, side), (90, 120, 60)).save(tmp_path / "large.bmp")
    choose(page, tmp_path / "large.bmp")
    wait_for_images(page, 1)
    assert "3100 × 3100" in page.locator(".cf-card").inner_text()


def test_the_same_file_twice(page, picture):
    path = picture("twice.png")
    choose(page, path)
    wait_for_images(page, 1)
    choose(page, path)
    wait_for_images(page, 2)
    assert page.locator(".cf-summary").inner_text().startswith("2 images")


def test_several_files_at_once_can_be_sorted_filtered_and_opened_again(page, picture, tmp_path):
    (tmp_path / "four.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    paths = [picture(f"{name}.png", seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    choose(page, *paths, tmp_path / "four.png")
    wait_for_images(page, 3)
    wait_for_rows(page, "three.png", "two.png", "one.png")
    refused = page.locator(".cf-history tr", has_text="four.png")
    assert "not an image that can be read" in refused.inner_text()
    page.get_by_role("columnheader", name="Name").click()
    wait_for_rows(page, "one.png", "three.png", "two.png")
    page.locator(".cf-history input[type=search]").fill("two")
    wait_for_rows(page, "two.png")
    page.locator(".cf-open", has_text="two.png").focus()
    page.keyboard.press("Enter")
    page.locator(".cf-card .cf-name", has_text="two.png").wait_for()
    page.locator(".cf-history input[type=search]").fill("")
    screenshot(page, "many-1280")
    page.get_by_role("button", name="Clear").click()
    page.locator(".cf-empty").wait_for()
    assert page.locator(".cf-card").count() == 0


def test_a_table_that_is_filtered_stays_so_when_more_comes(page, picture):
    choose(page, picture("one.png", seed=1), picture("two.png", seed=2))
    wait_for_rows(page, "two.png", "one.png")
    page.locator(".cf-history input[type=search]").fill("two")
    wait_for_rows(page, "two.png")
    choose(page, picture("three.png", seed=3), picture("twofold.png", seed=4))
    wait_for_rows(page, "twofold.png", "two.png")
    assert page.locator(".cf-history input[type=search]").input_value() == "two"
    page.get_by_role("button", name="Clear").click()
    page.locator(".cf-empty").wait_for()
    choose(page, picture("five.png", seed=5), picture("six.png", seed=6))
    wait_for_rows(page, "six.png", "five.png")


def test_markup_in_a_file_name_stays_text(page, picture):
    choose(page, picture("<img src=x onerror=document.title=1>.png"))
    wait_for_images(page, 1)
    assert "<img src=x" in page.locator(".cf-name").inner_text()
    assert page.title() != "1"


def test_examples_of_both_classes_get_a_verdict(page):
    for truth in ("REAL", "FAKE"):
        page.locator(f".cf-example[title$='({truth})']").first.click()
        page.locator(".cf-truth", has_text=truth).wait_for()
    wait_for_images(page, 2)
    screenshot(page, "examples-1280")


def test_the_file_speaks_only_when_asked(page, picture):
    choose(page, picture("holiday.jpg"))
    wait_for_images(page, 1)
    assert page.locator(".cf-details-body", has_text="SHA-256").count() == 0
    table = open_section(page, "What the file says about itself").locator("table").first
    content = picture("holiday.jpg").read_bytes()
    assert hashlib.sha256(content).hexdigest() in table.inner_text()
    screenshot(page, "metadata-1280")


def test_a_zip_gives_its_images(page, picture, tmp_path):
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        for seed, name in enumerate(("beach.png", "hotel.jpg")):
            archive.write(picture(name, seed=seed), f"2026/{name}")
        archive.writestr("2026/../../letter.txt", "Dear reader")
    choose(page, tmp_path / "holiday.zip")
    wait_for_images(page, 2)
    wait_for_rows(page, "2026/hotel.jpg", "2026/beach.png")
    assert "letter.txt" in message(page, "left out as no image").inner_text()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_can_be_dropped_and_pasted(page, picture, way):
    content = base64.b64encode(picture("dropped.png").read_bytes()).decode()
    transfer = page.evaluate_handle(
        """text => {
          const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
          return transfer;
        }""",
        content,
    )
    if way == "drop":
        page.locator(".cf-zone").dispatch_event("dragover", {"dataTransfer": transfer})
        page.locator(".cf-zone").dispatch_event("drop", {"dataTransfer": transfer})
    else:
        page.evaluate(
            """data => document.body.dispatchEvent(
              new ClipboardEvent("paste", { clipboardData: data, bubbles: true }))""",
            transfer,
        )
    wait_for_images(page, 1)
    assert page.locator(".cf-name").inner_text().endswith(".png")


def test_evidence_of_an_example(page):
    page.locator(".cf-example[title$='(FAKE)']").first.click()
    wait_for_images(page, 1)
    assert page.locator(".cf-details[open], .cf-sections details[open]").count() == 0
    fan = open_section(page, "Does the verdict hold?")
    assert "JPEG, quality 50" in fan.inner_text()
    assert "under" in fan.inner_text() and "12 changes" in fan.inner_text()
    heat = open_section(page, "Heat maps")
    widths = heat.locator("img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert len(widths) >= 3 and all(widths)
    for name in ("Baseline CNN", "Tuned CNN", "ResNet-50"):
        assert name in heat.inner_text()
    assert "Hot pixels matter" in heat.inner_text()
    spectrum = open_section(page, "Spectrum and noise")
    assert "not evidence" in spectrum.inner_text() and spectrum.locator("img").count() >= 2
    assert "64" in open_section(page, "Two views").inner_text()
    assert open_section(page, "most similar training images").inner_text()
    page.set_viewport_size({"width": 1280, "height": 2600})
    screenshot(page, "evidence-1280")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_photograph_is_also_voted_on_patch_by_patch(page, picture):
    choose(page, picture("large.jpg", size=(800, 600)))
    wait_for_images(page, 1)
    patches = open_section(page, "Two views of a large picture")
    assert "native 224 × 224 patches" in patches.inner_text()
    assert "REAL" in patches.inner_text()
    assert patches.locator("svg, img").count() >= 1


def test_the_robustness_lab_follows_the_slider(page):
    open_tab(page, "Robustness lab")
    lab = page.locator(".cf-lab-answers")
    lab.locator(".cf-verdict").wait_for(timeout=60_000)
    handle = page.locator(".cf-lab-controls input[type=range]")
    handle.focus()
    for _ in range(5):
        handle.press("ArrowRight")
    page.locator(".cf-lab-level", has_text="Severity 5 of 5").wait_for()
    lab.locator(".cf-model").nth(len(MODELS) - 1).wait_for(timeout=60_000)
    pictures = page.locator(".cf-lab-pictures img")
    before = pictures.first.get_attribute("src")
    expect(pictures.nth(1)).not_to_have_attribute("src", before)
    screenshot(page, "lab-1280")


def test_the_quiz_is_played_against_the_models(page):
    open_tab(page, "Quiz")
    page.locator(".cf-quiz-picture img").wait_for(timeout=60_000)
    rounds = int(re.search(r"1 of (\d+)", page.locator(".cf-quiz-count").inner_text())[1])
    for number in range(1, rounds + 1):
        page.locator(".cf-quiz-count", has_text=f"{number} of {rounds}").wait_for()
        page.get_by_role("button", name="FAKE").click()
        page.locator(".cf-quiz-next").click()
    table = page.locator(".cf-quiz-table")
    table.wait_for()
    for name in ("Baseline CNN", "Tuned CNN", "ResNet-50"):
        assert name in table.inner_text()
    screenshot(page, "quiz-1280")


def test_cards_and_limits_can_be_read(page):
    open_tab(page, "About")
    page.get_by_text("What a verdict is and is not").wait_for(timeout=30_000)
    card = page.locator("details.cf-about-card", has_text="ResNet-50").first
    card.locator("summary").click()
    assert "CIFAKE" in card.inner_text()
    screenshot(page, "about-1280")


def test_everything_can_be_taken_along(page, picture):
    choose(page, picture("=1+1.png", seed=1), picture("two.jpg", seed=2))
    wait_for_images(page, 2)
    saved = {}
    for words in ("Save as CSV", "Save as JSON", "Save the evidence sheet"):
        with page.expect_download() as download:
            page.get_by_role("link", name=words).first.click()
        saved[words] = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(saved["Save as CSV"])))
    assert [row["name"] for row in rows] == ["'=1+1.png", "two.jpg"]
    records = json.loads(saved["Save as JSON"])
    assert [image["name"] for image in records["images"]] == ["=1+1.png", "two.jpg"]
    assert "two.jpg" in saved["Save the evidence sheet"]
    assert "<script" not in saved["Save the evidence sheet"]


def test_a_stricter_threshold_and_rare_fakes_change_what_the_page_says(page):
    page.locator(".cf-example[title$='(FAKE)']").first.click()
    wait_for_images(page, 1)
    assert "Of 100 test images with a score like this" in page.locator(".cf-notes").inner_text()
    said = page.locator(".cf-threshold [role=status]")
    before = said.inner_text()
    page.locator(".cf-threshold select").select_option("1 % false alarms")
    expect(said).not_to_have_text(before)
    handle = page.locator(".cf-threshold input[type=range]")
    handle.focus()
    handle.press("Home")
    page.locator(".cf-notes", has_text="Where 0.1 % of the images are fake").wait_for()
    assert "0.1 % of the images are fake, an image called FAKE" in said.inner_text()
    screenshot(page, "threshold-1280")


def test_two_visitors_do_not_see_each_other(page, browser, server, picture):
    other = visit(browser, server)
    try:
        choose(page, picture("mine.png", seed=1))
        choose(other, picture("theirs.png", seed=2))
        for visitor, name in ((page, "mine.png"), (other, "theirs.png")):
            wait_for_images(visitor, 1)
            assert visitor.locator(".cf-name").all_inner_texts() == [name]
    finally:
        other.context.close()


def test_the_models_tab_shows_the_numbers_of_the_run_files(page):
    page.get_by_role("tab", name="Models").click()
    page.locator("tr[data-model]").first.wait_for(timeout=60_000)
    metrics = json.loads((released_dir() / "evaluation" / "metrics.json").read_text())
    for key, values in metrics["models"].items():
        row = page.locator(f"tr[data-model={key}]")
        for metric in ("precision_fake", "recall_fake", "f1_fake", "f1_real", "roc_auc"):
            cell = row.locator(f"td[data-metric={metric}]").inner_text()
            assert cell.split()[0] == f"{values[metric]:.3f}", (key, metric)
    section = page.locator(".cf-details:visible", has_text="Ranking")
    section.locator("summary").click()
    figures = section.locator("img")
    figures.first.wait_for(timeout=60_000)
    assert all(figures.evaluate_all("images => images.map(i => i.naturalWidth > 100)"))
    page.set_viewport_size({"width": 1280, "height": 1500})
    screenshot(page, "models-1280")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_telephone_scrolls_in_one_direction_only(page, picture):
    try:
        page.set_viewport_size({"width": 380, "height": 800})
        choose(page, picture("a name that is far too long for a telephone held upright.png"))
        wait_for_images(page, 1)
        for scheme, tab in itertools.product(
            ("light", "dark"), ("Analyse", "Models", "Robustness lab", "Quiz", "About")
        ):
            page.emulate_media(color_scheme=scheme)
            open_tab(page, tab)
            screenshot(page, f"{tab.lower().replace(' ', '-')}-380-{scheme}")
            wide = page.evaluate(
                "[...document.querySelectorAll('.cifake, .cf-details, .cf-banner, .cf-number,'"
                " + ' .cf-card, .cifake .lm-TabBar-tab')]"
                ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.className)"
            )
            assert wide == []
    finally:
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1280, "height": 900})


def test_nothing_is_fetched_from_elsewhere(browser, server):
    page = browser.new_context().new_page()
    answered = []
    page.on("response", lambda response: answered.append(response.url))
    # An address that never answers must not hold the page up either.
    page.route("**://cdn.jsdelivr.net/**", lambda route: None)
    page.goto(server, wait_until="commit")
    page.wait_for_selector(".cf-lead", timeout=READY)
    page.context.close()
    outside = [url for url in answered if not url.startswith((server, "data:", "blob:"))]
    assert outside == []


def test_files_beside_the_notebook_are_not_served(browser, server):
    page = browser.new_context().new_page()
    for name in ("profiles.yaml", "voila/files/profiles.yaml", "voila/files/dashboard.ipynb"):
        assert page.request.get(server + name).status in (403, 404)
    page.context.close()


def test_without_models_a_card_says_how_to_get_one_and_checks_again(browser, server_without_models):
    address, released = server_without_models
    page = visit(browser, address)
    card = page.locator(".cf-empty", has_text="There is no trained model yet")
    card.wait_for()
    assert "make pipeline" in card.inner_text()
    assert page.locator(".cf-choose").is_disabled()
    screenshot(page, "no-model-1280")
    shutil.copytree(released_dir(), released)
    page.get_by_role("button", name="Check again").click()
    page.locator(".cf-example").first.click(timeout=30_000)
    wait_for_images(page, 1)
    assert page.locator(".cf-choose").is_enabled()
    page.context.close()
