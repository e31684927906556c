"""Write the README's results from the released run files: `python -m cifake_lib.report`.

No figure in the README is typed. What stands between its markers is made here, and a test fails
when it differs from the files.
"""

import argparse
import re
import sys
from pathlib import Path

from cifake_lib import paths, plots, runs

_SECTION = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)


def results_section() -> str:
    """Return the README's results as Markdown, read from the released runs.

    Raises:
        runs.RunNotFound: A stage has not been released.
    """
    evaluation = runs.find_run("evaluation", released=True)
    metrics = evaluation.read_json("metrics.json")
    found = {stage: runs.find_run(stage, released=True) for stage in runs.MODEL_STAGES}
    names = {stage: run.manifest["model"]["display_name"] for stage, run in found.items()}
    names["ensemble"] = plots.display_name("ensemble")
    rows = [
        "| model | parameters | accuracy | F1 (95 %) | precision, recall of FAKE | ROC AUC |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key, name in names.items():
        model = metrics["models"][key]
        low, high = model["intervals"]["f1"]
        rows.append(
            f"| {name} | {model['parameters'] / 1e6:.2f} M | {model['accuracy']:.1%} "
            f"| {model['f1']:.3f} ({low:.3f}–{high:.3f}) "
            f"| {model['precision_fake']:.3f}, {model['recall_fake']:.3f} "
            f"| {model['roc_auc']:.4f} |"
        )
    data = evaluation.manifest["data"]
    trained = sum(found["baseline_cnn"].manifest["data"]["counts"]["train"].values())
    intro = (
        f"{metrics['count']:,} held-out test images of the data set `{data['name']}`; "
        f"models trained on {trained:,} images. F1 is the mean of both classes."
    )
    return "\n\n".join([intro, "\n".join(rows), _hardware_table(found, metrics)]) + "\n"


def _hardware_table(found: dict[str, runs.Run], metrics: dict) -> str:
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
    return "\n".join(rows)


def updated_readme(text: str) -> str:
    """Return a README with its results replaced by those of the released runs.

    Raises:
        ValueError: The markers `<!-- results -->` and `<!-- /results -->` are missing.
    """
    if not _SECTION.search(text):
        raise ValueError(
            "Expected <!-- results --> and <!-- /results --> in the README, found none"
        )
    section = results_section()
    return _SECTION.sub(lambda match: match[1] + "\n" + section + "\n" + match[2], text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the README's results from released runs.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it differs")
    options = parser.parse_args()
    readme = Path(paths.project_root() / "README.md")
    before = readme.read_text(encoding="utf-8")
    after = updated_readme(before)
    if options.check:
        sys.exit(0 if after == before else "README.md differs: run python -m cifake_lib.report")
    readme.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
