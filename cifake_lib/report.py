"""Write README's results, figure and cards from the released runs: `python -m cifake_lib.report`.

No figure in the README or a card is typed. What stands between the README's markers, its figure and
the cards are made here, and a test fails when they differ from the files.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from cifake_lib import (
    cards,
    corruptions,
    paths,
    plots,
    plots_robustness,
    robustness,
    routing,
    runs,
)
from cifake_lib.cards_training import retrain_command
from cifake_lib.intervals import share_interval
from cifake_lib.names import in_percent

PUBLISHED = "published.csv"  # what others report on CIFAKE, each row with its source


def results_section() -> str:
    """Return the README's results as Markdown, read from the released runs.

    Raises:
        runs.RunNotFound: A stage has not been released.
    """
    evaluation = runs.find_run("evaluation", released=True)
    metrics = evaluation.read_json("metrics.json")
    seeds = evaluation.read_csv("seeds.csv")
    conditions = evaluation.read_csv("robustness.csv")
    summary = robustness.robustness_summary(conditions)
    found = {stage: runs.find_run(stage, released=True) for stage in runs.MODEL_STAGES}
    names = {stage: run.manifest["model"]["display_name"] for stage, run in found.items()}
    names["ensemble"] = plots.display_name("ensemble")
    rows = [
        "| model | parameters | F1 (95 %) | F1 over seeds | ROC AUC | recall of FAKE at 1 % false "
        "alarms | ECE | corrupted: mean, worst |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key, name in names.items():
        model = metrics["models"][key]
        low, high = model["intervals"]["f1"]
        rows.append(
            f"| {name} | {model['parameters'] / 1e6:.2f} M "
            f"| {model['f1']:.4f} ({low:.4f}–{high:.4f}) "
            f"| {_over_seeds(seeds, key, found)} "
            f"| {model['roc_auc']:.4f} "
            f"| {in_percent(model['operating_points']['fpr_1']['true_positive_rate'])} "
            f"| {model['ece']:.3f} "
            f"| {in_percent(summary.loc[key, 'mean'])}, {in_percent(summary.loc[key, 'worst'])} |"
        )
    data = evaluation.manifest["data"]
    trained = sum(found["resnet50"].manifest["data"]["counts"]["train"].values())
    tested = evaluation.manifest["parameters"]["robustness_images"] or metrics["count"]
    intro = (
        f"{metrics['count']:,} held-out test images of the data set `{data['name']}`, half of them "
        f"FAKE; models trained on {trained:,} others. F1 is the mean of both classes. The last "
        f"column is accuracy on {min(tested, metrics['count']):,} of the test images under "
        f"{len(corruptions.CONDITIONS)} corruptions."
    )
    figure = f"![Accuracy of each model, clean and corrupted]({_shown(figure_file())})"
    table = "\n".join(rows)
    parts = [intro, table, figure, *_photographs()]
    parts += [*_published(metrics, names), *_hardware(found, metrics)]
    return "\n\n".join(parts) + "\n"


def _over_seeds(seeds: pd.DataFrame, key: str, found: dict[str, runs.Run]) -> str:
    if key not in found:
        return "–"
    same = seeds[(seeds["stage"] == key) & (seeds["recipe"] == found[key].recipe)]
    if same.empty or same["seeds"].item() < 2:
        return "–"
    row = same.iloc[0]
    return f"{row['f1_mean']:.4f} ± {row['f1_deviation']:.4f} ({row['seeds']:.0f})"


def _photographs() -> list[str]:
    """Say in two sentences for whom each model is, and what was measured on sources never seen."""
    try:
        run = runs.find_run(runs.PHOTO_MODEL, released=True)
    except runs.RunNotFound:
        return []
    metrics, sources = run.manifest["metrics"], len(run.read_csv("sources.csv"))
    alarms = metrics["operating_points"]["fpr_5"]
    return [
        f"These are for images of up to {routing.THUMBNAIL} pixels; pictures from "
        f"{routing.PHOTOGRAPH} pixels a side on go to "
        f"[a model of photographs](artifacts/released/{runs.PHOTO_MODEL}/MODEL_CARD.md), which was "
        f"measured on {metrics['count']:,} pictures of {sources} sources, each left out of its "
        f"training: it ranked {in_percent(metrics['roc_auc'], 0)} of pairs of a photograph and a "
        f"generated picture right (the models of CIFAKE, on the same pictures shrunk: "
        f"{in_percent(routing.small_models_rank(run), 0)}; guessing: 50 %), found "
        f"{in_percent(alarms['true_positive_rate'], 0)} of the generated ones at "
        f"{in_percent(alarms['false_positive_rate'])} false alarms, and was right on "
        f"{in_percent(metrics['right'], 0)} of the {in_percent(metrics['coverage'], 0)} for which "
        "it gave a verdict. Generators that are newer than those it learned from may pass."
    ]


def figure_file() -> Path:
    """Return where the README's figure lies."""
    return paths.released_dir() / "results.png"


def _shown(path: Path) -> str:
    return path.relative_to(paths.released_dir().parent.parent).as_posix()


def _figure_source() -> str:
    """Hash of what the figure is drawn from; kept in the picture, so that a test can compare."""
    files = runs.find_run("evaluation", released=True).manifest["files"]
    return f"robustness.csv {files['robustness.csv']}"


def draw_figure() -> None:
    """Draw the README's figure from the released evaluation."""
    evaluation = runs.find_run("evaluation", released=True)
    models = [runs.find_run(stage, released=True) for stage in runs.MODEL_STAGES]
    unseen = {run.unseen_corruption for run in models} - {""}
    figure = plots.new_figure(7, 5.2)
    table = evaluation.read_csv("robustness.csv")
    ax = plots_robustness.conditions_heatmap(table, unseen=unseen, ax=figure.subplots())
    star = "; * corruption never seen in training" if unseen else ""
    ax.set_title(f"Accuracy on test images (%){star}", fontsize=11)
    figure.savefig(figure_file(), dpi=120, metadata={"Source": _figure_source()})


def figure_is_current() -> bool:
    """Whether the README's figure was drawn from the released evaluation."""
    if not figure_file().is_file():
        return False
    with Image.open(figure_file()) as picture:
        return picture.info.get("Source") == _figure_source()


def _published(metrics: dict, names: dict[str, str]) -> list[str]:
    """Put our models among published results, by accuracy."""
    rows = []
    for known in pd.read_csv(paths.released_dir() / PUBLISHED).itertuples():
        interval = ""
        if known.test_images > 0:
            right = round(known.accuracy * known.test_images)
            low, high = share_interval(right, known.test_images)
            interval = f" ({low:.4f}–{high:.4f})"
        source = f"[{known.evidence}]({known.source})"
        size = f"{known.parameters_million:.2f} M" if known.parameters_million > 0 else "–"
        auc = f"{known.roc_auc:.4f}" if known.roc_auc > 0 else "–"
        cells = [known.model, size, f"{known.accuracy:.4f}{interval}", auc, source]
        rows.append((known.accuracy, cells))
    for key, name in names.items():
        model = metrics["models"][key]
        low, high = model["intervals"]["accuracy"]
        accuracy = f"{model['accuracy']:.4f} ({low:.4f}–{high:.4f})"
        cells = [name, f"{model['parameters'] / 1e6:.2f} M", accuracy, f"{model['roc_auc']:.4f}"]
        rows.append((model["accuracy"], [f"**{cell}**" for cell in [*cells, "here"]]))
    ordered = [cells for _, cells in sorted(rows, key=lambda row: -row[0])]
    intro = (
        "What others report on CIFAKE. They measured on its official 20,000 test images unless "
        "the name says otherwise, we on images held out of its training folder, so a difference "
        "inside the intervals is no difference; “stated” is a figure without its result file."
    )
    head = ["| model | parameters | accuracy (95 %) | ROC AUC | source |"]
    head += ["| --- | ---: | ---: | ---: | --- |"]
    return [intro, "\n".join(head + [f"| {' | '.join(cells)} |" for cells in ordered])]


def _hardware(found: dict[str, runs.Run], metrics: dict) -> list[str]:
    rows = [
        "| hardware | model | epochs | training time | images/s, training | images/s, verdicts |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for stage, run in found.items():
        training, measured = run.manifest["training"], metrics["models"][stage]
        hardware = run.manifest["processor"]
        if training["device"] != "CPU":
            hardware = training["device"]
        rows.append(
            f"| {hardware} | {run.manifest['model']['display_name']} | {training['epochs']} "
            f"| {training['seconds']:.0f} s | {training['images_per_second']:,.0f} "
            f"| {measured['images_per_second_batch_256']:,.0f} |"
        )
    commands = filter(None, map(retrain_command, found.values()))
    intro = "To train one of them again, for about the time in the table:"
    return ["\n".join(rows), intro, "\n".join(["```", *commands, "```"])]


def recipes_section() -> str:
    """Return what the recipes of others reached, as Markdown, read from the released evaluation.

    Raises:
        runs.RunNotFound: A stage has not been released.
    """
    evaluation = runs.find_run("evaluation", released=True)
    count = evaluation.read_json("metrics.json")["count"]
    scored = evaluation.read_csv("runs.csv")
    others = scored[scored["profile"] != evaluation.manifest["profile"]]
    rows = [
        "| profile | network | training images | epochs | accuracy (95 %) | corrupted: mean |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in others.itertuples():
        low, high = share_interval(round(row.accuracy * count), count)
        rows.append(
            f"| `{row.profile}` | {row.name} | {row.training_images:,} | {row.epochs} "
            f"| {row.accuracy:.4f} ({low:.4f}–{high:.4f}) | {in_percent(row.robust_mean)} |"
        )
    name = evaluation.manifest["data"]["name"]
    intro = (
        f"What they reached on the {count:,} test images of `{name}`, after as much training as "
        "the table says; a recipe that is missing was not run:"
    )
    return "\n\n".join([intro, "\n".join(rows)]) + "\n"


_SECTIONS = {"results": results_section, "recipes": recipes_section}


def updated_readme(text: str) -> str:
    """Return a README with its results replaced by those of the released runs.

    Raises:
        ValueError: A marker such as `<!-- results -->` or `<!-- /results -->` is missing.
    """
    for name, section in _SECTIONS.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if start not in text or end not in text:
            raise ValueError(f"Expected <!-- {name} --> and {end} in the README, found none")
        before, rest = text.split(start, 1)
        text = f"{before}{start}\n{section()}\n{end}{rest.split(end, 1)[1]}"
    return text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Write the README's results, its figure and the cards from released runs."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it differs")
    options = parser.parse_args()
    readme = Path(paths.project_root() / "README.md")
    before = readme.read_text(encoding="utf-8")
    after = updated_readme(before)
    if options.check:
        wrong = [paths.shown(path) for path in cards.outdated()]
        wrong += [] if after == before else ["README.md"]
        wrong += [] if figure_is_current() else [paths.shown(figure_file())]
        sys.exit(f"{', '.join(wrong)} differ: run python -m cifake_lib.report" if wrong else 0)
    readme.write_text(after, encoding="utf-8")
    draw_figure()
    cards.write()


if __name__ == "__main__":
    main()
