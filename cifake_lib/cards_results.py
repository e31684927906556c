"""The sections of a card that say how a model did on the test split, and where it fails.

A section is a list of parts: a paragraph, a list of lines, or a table.
"""

from collections.abc import Mapping

import pandas as pd

from cifake_lib import corruptions, plots, robustness
from cifake_lib.names import in_percent, interval_in_percent
from cifake_lib.runs import Run
from cifake_lib.summary import table

_MEASURES = {
    **dict.fromkeys(("accuracy", "precision_fake", "recall_fake"), ".1%"),
    **dict.fromkeys(("f1", "roc_auc", "log_loss", "brier"), ".4f"),
}
_POINTS = {
    "balanced": "the usual threshold",
    "best_f1": "largest F1",
    "fpr_5": "at most 5 % false alarms",
    "fpr_1": "at most 1 % false alarms",
}


def result_sections(key: str, evaluation: Run, found: Mapping[str, Run]) -> dict[str, list]:
    """Write the sections on results, operating points, calibration, robustness and limits.

    Args:
        key: A stage, or `ensemble`.
        evaluation: The released evaluation, which measured the runs in `found`.
        found: Stage → run of the model, or of the ensemble's members.

    Returns:
        Heading → parts, none where something was not measured.
    """
    metrics = evaluation.read_json("metrics.json")["models"][key]
    # The fitted values and validation scores: the ensemble's lie in the evaluation's manifest.
    fitted = evaluation.manifest["ensemble"] if key == "ensemble" else found[key].manifest
    splits = {run.manifest["data"]["split_hash"] for run in [evaluation, *found.values()]}
    conditions = evaluation.read_csv("robustness.csv")
    conditions = conditions[conditions["model"] == key]
    return {
        "Results on the test split": [
            "Training used another split than the test: check for leaks."
            if len(splits) > 1
            else "",
            *_scores(key, metrics, evaluation),
            *([] if key == "ensemble" else _over_seeds(found[key], evaluation)),
        ],
        "Operating points": _operating_points(metrics["operating_points"]),
        "Calibration": [
            f"Scores are divided by a temperature of {fitted['temperature']:.3f}, fitted on "
            "validation images. The expected calibration error of `p_fake` is "
            f"{metrics['ece']:.4f} on the test split and {fitted['metrics']['ece']:.4f} on "
            "validation images; 0 is perfect."
        ],
        "Robustness": _robustness(conditions, evaluation, metrics["count"], found),
        "Against the same model trained without corruptions": (
            [] if key == "ensemble" else _clean_twin(found[key], evaluation)
        ),
        "Limits": [_limits(conditions)],
    }


def _left_out(found: Mapping[str, Run]) -> set[str]:
    # What none of them saw, of those that were trained with corruptions.
    parameters = [run.manifest["parameters"] for run in found.values()]
    families = [
        {known.get("unseen_corruption", "")}
        for known in parameters
        if known.get("corruption_share")
    ]
    return set.intersection(*families) - {""} if families else set()


def _scores(key: str, metrics: dict, evaluation: Run) -> list[str]:
    rows = []
    for name, form in _MEASURES.items():
        low, high = metrics["intervals"].get(name, (None, None))
        interval = "" if low is None else f"{low:{form}}".rstrip("%") + f"–{high:{form}}"
        row = [plots.display_name(name), f"{metrics[name]:{form}}", interval]
        rows.append([cell.replace("%", " %") for cell in row])
    (tn, fp), (fn, tp) = metrics["confusion"]
    predictions = evaluation.read_csv("predictions.csv")
    called_fake = predictions[f"{key}_p_fake"] >= metrics["threshold"]
    right = (called_fake == (predictions["label"] == 1)).groupby(predictions["object_class"]).mean()
    right, by_kind = right.drop("", errors="ignore"), ""
    if len(right):
        worst, best = right.idxmin(), right.idxmax()
        by_kind = (
            f"By kind of object the accuracy runs from {in_percent(right[worst])} ({worst}) to "
            f"{in_percent(right[best])} ({best})."
        )
    return [
        f"{metrics['count']:,} images, not used in training, to fit the temperature or to choose "
        f"thresholds. An image is called FAKE from a `p_fake` of {metrics['threshold']:g} on.",
        table(["measure", "value", "95 % interval"], rows),
        f"Of {tn + fp:,} REAL {fp:,} were called FAKE; of {fn + tp:,} FAKE {fn:,} passed as REAL.",
        by_kind,
        f"Speed: {metrics['images_per_second_batch_1']:,.0f} images/s one at a time, "
        f"{metrics['images_per_second_batch_256']:,.0f} in batches of 256, on a machine with "
        f"{evaluation.manifest['processor']}.",
    ]


def _over_seeds(run: Run, evaluation: Run) -> list[str]:
    seeds = evaluation.read_csv("seeds.csv")
    same = (seeds["stage"] == run.stage) & (seeds["recipe"] == run.recipe)
    several = seeds[same & (seeds["seeds"] > 1)]
    if several.empty:
        return ["How much another seed changes was not measured."]
    row = several.iloc[0]
    forms = {"accuracy": ".2%", "f1": ".4f", "roc_auc": ".4f", "ece": ".4f"}
    names = {name: plots.display_name(name) for name in forms} | {"ece": "calibration error"}
    shown = [
        f"{names[name]} {row[f'{name}_mean']:{form}} ± {row[f'{name}_deviation']:{form}}"
        for name, form in forms.items()
    ]
    text = ", ".join(shown).replace("%", " %")
    return [f"Over {row['seeds']:.0f} seeds, mean ± standard deviation: {text}."]


def _operating_points(points: Mapping[str, Mapping]) -> list[str]:
    rows = []
    for name, point in points.items():
        low, high = point["true_positive_rate_interval"]
        rows.append(
            [
                f"`{name}`: {_POINTS[name]}" if name in _POINTS else f"`{name}`",
                f"{point['threshold']:.6g}",
                f"{in_percent(point['true_positive_rate'])} ({interval_in_percent(low, high)})",
                in_percent(point["false_positive_rate"]),
            ]
        )
    return [
        "Thresholds on `p_fake` and their aim, chosen on validation images; the rates are those "
        "of the test split.",
        table(["point: aim", "threshold", "TPR, FAKE found (95 %)", "FPR, REAL called FAKE"], rows),
    ]


def _robustness(
    conditions: pd.DataFrame, evaluation: Run, count: int, found: Mapping[str, Run]
) -> list[str]:
    if conditions.empty:
        return []
    unseen = _left_out(found)
    rows = []
    for row in conditions.itertuples():
        clean = row.corruption == "clean"
        name = "Untouched" if clean else plots.display_name(row.corruption)
        rows.append(
            [
                f"{name} (not in training)" if row.corruption in unseen else name,
                "" if clean else f"{row.level:g}",
                "" if clean else corruptions.CORRUPTIONS[row.corruption].unit,
                f"{in_percent(row.accuracy)} "
                f"({interval_in_percent(row.accuracy_low, row.accuracy_high)})",
                in_percent(row.true_positive_rate),
                in_percent(row.true_negative_rate),
                f"{row.roc_auc:.4f}",
            ]
        )
    (summary,) = robustness.robustness_summary(conditions, unseen=sorted(unseen)).itertuples()
    worst = _worst(conditions)
    images = min(evaluation.manifest["parameters"]["robustness_images"] or count, count)
    head = ["corruption", "level", "unit", "accuracy (95 %)", "TPR, FAKE found"]
    return [
        f"{images:,} of the test images, corrupted in {len(conditions) - 1} ways.",
        table([*head, "TNR, REAL left alone", "ROC AUC"], rows),
        f"Mean accuracy over the corruptions {in_percent(summary.mean)}, worst "
        f"{in_percent(worst.accuracy)} ({_condition(worst)})."
        + (f" Mean over what training left out: {in_percent(summary.unseen)}." if unseen else ""),
    ]


def _worst(conditions: pd.DataFrame) -> pd.Series:
    corrupted = conditions[conditions["corruption"] != "clean"]
    return corrupted.loc[corrupted["accuracy"].idxmin()]


def _condition(row: pd.Series) -> str:
    return f"{plots.display_name(row.corruption)} {row.level:g}"


def _clean_twin(run: Run, evaluation: Run) -> list[str]:
    if not run.manifest["parameters"].get("corruption_share"):
        return []
    scored = evaluation.read_csv("runs.csv").astype({"run_id": str})
    same = scored[scored["stage"] == run.stage]
    own = same[same["run_id"] == run.run_id]
    clean = same[same["corruption_share"] == 0]
    if own.empty or clean.empty:
        return []
    # The twin with the same seed, if there is one.
    other = (clean["seed"] != own["seed"].iloc[0]).sort_values(kind="stable").index[0]
    rows = [
        [
            in_percent(row.corruption_share, 0),
            f"{row.seed}",
            f"{row.epochs}",
            in_percent(row.accuracy),
            in_percent(row.robust_mean),
            in_percent(row.robust_worst),
        ]
        for row in pd.concat([own, clean.loc[[other]]]).itertuples()
    ]
    head = ["corrupted in training", "seed", "epochs", "accuracy, clean images"]
    return [
        "What training with corruptions costs and gains, in accuracy:",
        table([*head, "mean over the corruptions", "worst corruption"], rows),
    ]


def _limits(conditions: pd.DataFrame) -> list[str]:
    failures = ""
    if not conditions.empty:
        worst = _worst(conditions)
        found, alone = worst.true_positive_rate, worst.true_negative_rate
        more, less = ("FAKE pass as REAL", "REAL are called FAKE")[:: 1 if found < alone else -1]
        failures = (
            f"Failures lean to one side. In the worst condition ({_condition(worst)}) it finds "
            f"{in_percent(found)} of FAKE and leaves {in_percent(alone)} of REAL alone: more "
            f"{more} than {less}."
        )
    return [
        "It knows small images only: one size, one source of photographs (CIFAR-10), one generator "
        "(Stable Diffusion 1.4).",
        "On photographs of ordinary size and on other generators expect chance: published models "
        "of this kind do little better than guessing there. It was not measured here.",
        failures,
    ]
