"""The README's figures are those of the released run files."""

import json
import re
import shutil

import pandas as pd
import pytest

from cifake_lib import cards, data, paths, profiles, report, runs

README = paths.project_root() / "README.md"


def test_the_readme_its_figure_and_the_cards_show_the_released_results():
    text = README.read_text(encoding="utf-8")
    assert report.updated_readme(text) == text, "run: python -m cifake_lib.report"
    assert report.figure_is_current(), "run: python -m cifake_lib.report"
    assert cards.outdated() == [], "run: python -m cifake_lib.report"


def test_a_figure_that_was_typed_is_noticed():
    text = README.read_text(encoding="utf-8")
    (shown,) = re.findall(r"\| Ensemble \| .*? \| (0\.\d{4}) ", text)
    wrong = text.replace(f"| {shown} (", "| 0.9999 (")
    assert wrong != text
    assert report.updated_readme(wrong) == text


def test_every_model_and_its_hardware_is_listed():
    section = report.results_section()
    for stage in runs.MODEL_STAGES:
        run = runs.find_run(stage, released=True)
        assert section.count(f"| {run.manifest['model']['display_name']} |") == 2
        assert run.manifest["processor"] in section
    evaluation = runs.find_run("evaluation", released=True)
    ensemble = evaluation.read_json("metrics.json")["models"]["ensemble"]
    low, high = ensemble["intervals"]["f1"]
    assert f"({low:.4f}–{high:.4f})" in section
    assert f"{100 * ensemble['operating_points']['fpr_1']['true_positive_rate']:.1f} %" in section
    conditions = evaluation.read_csv("robustness.csv")
    own = conditions[(conditions["model"] == "ensemble") & (conditions["corruption"] != "clean")]
    assert f"{100 * own['accuracy'].mean():.1f} %, {100 * own['accuracy'].min():.1f} % |" in section


def test_published_results_stand_among_ours_with_intervals_and_sources():
    section = report.results_section()
    published = pd.read_csv(paths.released_dir() / report.PUBLISHED)
    assert published["source"].str.startswith("https://").all()
    rows = [line for line in section.splitlines() if "](https://" in line or "| **here** |" in line]
    assert len(rows) == len(published) + len(runs.MODEL_STAGES) + 1
    accuracies = [float(re.search(r"\| \**(0\.\d{4})", row)[1]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    # Wilson's interval of 19,556 right of 20,000.
    (row,) = [row for row in rows if row.startswith("| ResNet-18 |")]
    assert "| 0.9778 (0.9757–0.9798) |" in row


def test_each_model_has_its_command():
    section = report.results_section()
    for stage in runs.MODEL_STAGES:
        run_id = runs.find_run(stage, released=True).run_id
        assert f"--only {stage} --run-id {run_id}" in section


def test_the_figure_of_another_evaluation_is_noticed(monkeypatch, tmp_path):
    shutil.copytree(paths.released_dir(), tmp_path / "released")
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    assert report.figure_is_current()
    manifest = tmp_path / "released" / "evaluation" / "manifest.json"
    facts = json.loads(manifest.read_text(encoding="utf-8"))
    facts["files"]["robustness.csv"] = "0" * 64
    manifest.write_text(json.dumps(facts), encoding="utf-8")
    assert not report.figure_is_current()


def test_the_split_of_the_released_models_holds_out_the_test_images_of_the_sample():
    released = runs.find_run("data", released=True).read_csv("split.csv.gz")
    sample = data.load_dataset("sample").table
    sample["content_hash"] = sample["content_hash"].str[:16]
    # The whole has exact copies, which lie on one side; the sample has none.
    assert (released.groupby("content_hash")["split"].nunique() == 1).all()
    released = released.drop_duplicates("content_hash")
    known = sample.merge(released, on="content_hash", suffixes=("", "_released"))
    assert len(known) == len(sample)
    assert (known["split"] == known["split_released"]).all()


def test_what_recipes_of_others_reach_is_listed_beside_them():
    evaluation = runs.find_run("evaluation", released=True)
    scored = evaluation.read_csv("runs.csv")
    others = scored[scored["profile"] != "full"]
    section = report.recipes_section()
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == set(others["profile"])
    for row in others.itertuples():
        assert f"| {row.name} | {row.training_images:,} | {row.epochs} | {row.accuracy:.4f} (" in (
            section
        )
    assert set(others["profile"]) <= set(profiles.read_settings().profiles)


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="results"):
        report.updated_readme("# Nothing here\n")


def test_the_files_and_pictures_that_the_readme_links_to_exist():
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", text)
    assert len(links) > 10
    assert not [link for link in links if not (README.parent / link).exists()]
