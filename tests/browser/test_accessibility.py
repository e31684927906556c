"""axe-core finds no serious fault on any tab: wide and narrow, in light and in dark."""

import pytest
from serving import SCREENSHOTS

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
expect = pytest.importorskip("playwright.sync_api").expect

LOOKS = [(width, scheme) for width in (1280, 380) for scheme in ("light", "dark")]
GRAVE = ("serious", "critical")
# What shows that a tab is filled.
TABS = {
    "Models": "tr[data-model]",
    "Robustness lab": ".cf-lab-answers .cf-model",
    "Quiz": ".cf-quiz-picture img",
    "About": ".cf-about",
}


@pytest.fixture
def looks(page):
    """Show the page in every width and scheme in turn, and as it was in the end."""

    def each():
        for width, scheme in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_timeout(250)  # until colours that change slowly have changed
            yield f"{width}-{scheme}"

    yield each
    page.emulate_media(color_scheme="null", reduced_motion="null")
    page.set_viewport_size({"width": 1280, "height": 900})


def check(page, looks, name):
    """Fail with every grave fault: the look, the rule, the element and what is wrong with it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    faults = []
    for look in looks():
        page.screenshot(path=SCREENSHOTS / f"accessibility-{name}-{look}.png")
        options = {"resultTypes": ["violations"], "preload": False}
        if "dark" in look:  # differs in colours only
            options["runOnly"] = ["color-contrast"]
        for fault in axe.Axe().run(page, options=options).response["violations"]:
            if fault["impact"] in GRAVE:
                faults += [
                    f"{look}: {fault['id']}: {node['target'][-1]}: {node['failureSummary']}"
                    for node in fault["nodes"]
                ]
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


def test_analyse_without_a_picture(page, looks):
    page.locator(".cf-empty").wait_for()
    check(page, looks, "empty")


def test_analyse_with_verdict_evidence_and_history(page, looks):
    examples = page.locator(".cf-example")
    for place, count in ((0, 1), (-1, 2)):
        examples.nth(place).click()
        page.locator(".cf-summary", has_text=f"{count} image").wait_for()
    page.locator(".cf-open").first.wait_for()
    sections = page.locator(".cf-opened .cf-details")
    for section in sections.all():
        section.locator("summary").click()
        expect(section.locator(".cf-details-body")).not_to_be_empty(timeout=30_000)
    expect(sections.locator(".cf-spinner")).to_have_count(0, timeout=60_000)
    check(page, looks, "verdict")


@pytest.mark.parametrize("tab", TABS)
def test_every_other_tab(page, looks, tab):
    page.get_by_role("tab", name=tab).click()
    page.locator(TABS[tab]).first.wait_for(timeout=60_000)
    check(page, looks, tab.split()[0].lower())
