"""The README's figures are those of the released run files."""

import re

import pytest

from cifake_lib import paths, report, runs

README = paths.project_root() / "README.md"


def test_the_readme_shows_the_released_results():
    text = README.read_text(encoding="utf-8")
    assert report.updated_readme(text) == text, "run: python -m cifake_lib.report"


def test_a_figure_that_was_typed_is_noticed():
    text = README.read_text(encoding="utf-8")
    (shown,) = set(re.findall(r"\| Ensemble \| .*? \| (\d+\.\d)%", text))
    wrong = text.replace(f"{shown}%", "99.9%")
    assert wrong != text
    assert report.updated_readme(wrong) == text


def test_every_model_and_its_hardware_is_listed():
    section = report.results_section()
    for stage in runs.MODEL_STAGES:
        run = runs.find_run(stage, released=True)
        assert section.count(f"| {run.manifest['model']['display_name']} |") == 2
        assert run.manifest["processor"] in section
    low, high = runs.find_run("evaluation", released=True).read_json("metrics.json")["models"][
        "ensemble"
    ]["intervals"]["f1"]
    assert f"({low:.3f}–{high:.3f})" in section


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="results"):
        report.updated_readme("# Nothing here\n")


def test_the_files_and_pictures_that_the_readme_links_to_exist():
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", text)
    assert len(links) > 10
    assert not [link for link in links if not (README.parent / link).exists()]
