"""The sections of a card that say what notebook 06 found beyond the test images.

A section is a list of parts: a paragraph, a list of lines, or a table.
"""

import pandas as pd

from cifake_lib import plots, runs
from cifake_lib.data import KNOWN_ORIGIN
from cifake_lib.names import in_percent
from cifake_lib.summary import table


def beyond_sections(key: str, *models: runs.Run) -> dict[str, list]:
    """Write the sections on deliveries, other origins, scope and explanations.

    Args:
        key: A stage, or `ensemble`.
        *models: Runs of the models that the card is about.

    Returns:
        Heading → parts; nothing without a released run of notebook 06 that measured these models.
    """
    try:
        run = runs.find_run("robustness", released=True)
    except runs.RunNotFound:
        return {}
    if not run.measured(*models, among_others=key != "ensemble"):
        return {}
    tables = {}
    for name in ("deliveries", "origins", "explanations"):
        whole = run.read_csv(f"{name}.csv")
        tables[name] = whole[whole["model"] == key]
    return {
        "On the way to you": _deliveries(tables["deliveries"]),
        "Images of other origin": _origins(tables["origins"]),
        "Scope": _scope(run) if key in ("resnet50", "ensemble") else [],
        "Explanations": _explanations(tables["explanations"]),
    }


def _deliveries(known: pd.DataFrame) -> list:
    rows = [
        [
            plots.display_name(row.delivery),
            in_percent(row.flipped, 0),
            in_percent(row.real_flipped, 0),
            in_percent(row.fake_flipped, 0),
        ]
        for row in known.itertuples()
        if row.delivery != "none"
    ]
    return [
        "Share of verdicts that turn around when the image is sent (each way is a chain of "
        "enlargements, crops and re-savings, `corruptions.DELIVERIES`):",
        table(["way", "all", "REAL", "FAKE"], rows),
    ]


def _origins(known: pd.DataFrame) -> list:
    others = known[known["origin"] != KNOWN_ORIGIN]
    rows = [
        [
            plots.display_name(row.origin),
            row["class"],
            f"{row.images:,}",
            in_percent(row.called_fake, 0),
            f"{row.roc_auc:.3f}",
        ]
        for _, row in others.iterrows()
    ]
    return [
        "ROC AUC against the test images of the other class; .5 is guessing. Principal components "
        "and autoencoder are small generators of this suite (`cifake_lib.generated`), not products "
        "that people use.",
        table(["origin", "class", "images", "called FAKE", "ROC AUC"], rows),
    ]


def _scope(run: runs.Run) -> list:
    known = run.read_csv("scope.csv")
    rows = [
        [
            plots.display_name(row.kind),
            in_percent(row.outside, 0),
            "–" if pd.isna(row.accuracy_inside) else in_percent(row.accuracy_inside),
            "–" if pd.isna(row.accuracy_outside) else in_percent(row.accuracy_outside),
        ]
        for row in known.itertuples()
    ]
    return [
        "Share of images that a check calls unlike what the ResNet-50 knows, and how often the "
        "ensemble is right about the others and about those:",
        table(["images", "outside", "right inside", "right outside"], rows),
    ]


def _explanations(known: pd.DataFrame) -> list:
    if known.empty:
        return []
    rows = [
        [
            plots.display_name(row.method),
            f"{row.deletion:.2f}",
            f"{row.insertion:.2f}",
            "–" if pd.isna(row.rank_correlation) else f"{row.rank_correlation:.2f}",
        ]
        for row in known.itertuples()
    ]
    head = ["map", "deletion (low is good)", "insertion (high is good)"]
    return [
        "Whether a heat map means anything: areas under the curves of deletion and insertion "
        "beside those of a random map, and the rank correlation with maps of random weights (near "
        "1 the map shows the picture, not the model).",
        table([*head, "correlation with random weights"], rows),
    ]
