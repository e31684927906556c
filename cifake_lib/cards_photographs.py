"""The card of a released model of photographs, written from its run's files.

See `cards`. What it learned from is listed source by source, as the index of the pictures has it.
"""

import pandas as pd

from cifake_lib.cards_training import energy, hardware, retrain_command
from cifake_lib.data import CLASS_NAMES
from cifake_lib.names import in_percent, interval_in_percent
from cifake_lib.plots import display_name
from cifake_lib.runs import Run
from cifake_lib.summary import table
from cifake_lib.unseen_sources import CERTAIN, FEWEST

_POINTS = {"fpr_5": "few false alarms (5 %)", "fpr_1": "hardly any false alarms (1 %)"}
_ORIGIN = ("repository", "commit", "licence", "kind")
_USE = [
    "For learning how detectors of generated pictures fare on sources that they have not seen, and "
    "for a first look at a picture of ordinary size beside other evidence.",
    "Not for judging a picture, its author or its truth, not as evidence, not for moderation. A "
    "verdict is a statistic over pictures like those measured here, never proof about one.",
]
_LIMITS = [
    "The sources that were left out are of the years and the kinds of those it learned from. "
    "Generators that are newer than all of them may pass.",
    "It sees a picture shrunk to its input and parts at a slightly larger scale: traces finer than "
    "that are lost to it.",
    "A picture that is mostly photograph, with a generated part, is not what it was measured on.",
    "Paintings, drawings and renderings by people are rare among its REAL pictures.",
]


def photo_sections(run: Run) -> dict[str, list]:
    """Write the sections of the card.

    Args:
        run: A finished run of the stage `photo_resnet50`.

    Returns:
        Heading → parts, as `cards` puts them together.
    """
    model, metrics, made = (run.manifest[key] for key in ("model", "metrics", "parameters"))
    side = model["input_size"]
    again = retrain_command(run)
    return {
        "What it is": [
            f"{model['display_name']} with one output, for pictures from 128 pixels a side on.",
            [
                f"Input: RGB, uint8 or float in 0–255, shape `(batch, {side}, {side}, 3)`. Scaling "
                "is part of the model. Of each picture it sees the whole, shrunk, and parts from "
                "its corners; the logits are averaged (`views.photo_views`).",
                "Output: one logit a view; `p_fake = sigmoid(mean logit / temperature)`. FAKE is "
                "the positive class (1), REAL is 0.",
                f"Size: {model['parameters']:,} parameters; the weights take "
                f"{model['weights_bytes'] / 1e6:.1f} MB.",
                f"Run `{run.run_id}`, seed {run.manifest['seed']}, commit "
                f"`{run.manifest['git_commit']}`.",
            ],
        ],
        "Intended use": [_USE],
        "Results on sources that it has never seen": _results(run),
        "Verdicts": _verdicts(run, metrics),
        "After the picture was changed": _changes(run),
        "Source by source": _by_source(run),
        "Limits": [_LIMITS],
        "Training data": _data(run),
        "Training": [
            f"Parts of {made['crop_size']} pixels after a random chain of deliveries (rescaled, "
            "softened or sharpened, mirrored, recoloured, noisy, saved once or twice), labels and "
            "sources drawn alike. "
            + (
                "The output layer starts from a logistic regression on what the pretrained layers "
                "see. "
                if made["regression_passes"]
                else ""
            )
            + (f"Never trained: {', '.join(made['frozen'])}." if made["frozen"] else ""),
            [
                f"Passes: {run.manifest['training']['epochs']}, learning rate "
                f"{made['learning_rate']:g} at its peak, then along a cosine to zero.",
                f"Time: {run.manifest['training']['seconds']:,.0f} s for the network that is kept, "
                "and about as much for each part of the sources that was left out.",
                f"Hardware: {hardware(run)}, precision {run.manifest.get('precision', 'unknown')}.",
            ],
            energy({run.stage: run}),
        ],
        "Train it again": [
            f"```\n{again}\n```" if again else "",
            f"The pictures, with their `index.csv`, lie in `{made['data_dir']}` then. They cannot "
            "be passed on; the table above says where each source is found.",
        ],
    }


def _results(run: Run) -> list:
    scores = run.read_csv("folds.csv")
    means = scores.groupby("method")[["roc_auc", "tpr_5", "tpr_1"]].mean()
    means = means.sort_values("roc_auc", ascending=False)
    folds = scores.pivot(index="method", columns="fold", values="roc_auc").loc[means.index]
    rows = [
        [
            display_name(name),
            *(f"{value:.3f}" for value in row),
            *(f"{v:.2f}" for v in folds.loc[name]),
        ]
        for name, *row in means.itertuples()
    ]
    parts = [f"part {fold + 1}" for fold in folds.columns]
    return [
        f"Whole sources were left out, some of them at a time, in {len(parts)} parts; each method "
        "judged each part by what the other parts had taught it. The means over the parts, and the "
        "ROC AUC in each:",
        table(
            ["method", "ROC AUC", "found at 5 % false alarms", "at 1 %", *parts],
            rows,
        ),
    ]


def _verdicts(run: Run, metrics: dict) -> list:
    rows, thresholds = [], run.manifest["thresholds"]
    fake_from = max(thresholds["balanced"], run.manifest["certain_from"])
    for name, title in _POINTS.items():
        rates = metrics["operating_points"][name]
        both = [
            f"{in_percent(rates[rate])} ({interval_in_percent(*rates[f'{rate}_interval'])})"
            for rate in ("false_positive_rate", "true_positive_rate")
        ]
        rows.append([title, f"{thresholds[name]:.3f}", *both])
    return [
        f"FAKE is said from a score of {fake_from:.3f} on, REAL where the confidence in that is at "
        f"least {in_percent(run.manifest['certain_from'])}, else UNCERTAIN. On left-out sources "
        f"{in_percent(metrics['coverage'])} of {metrics['count']:,} pictures got a verdict, and "
        f"{in_percent(metrics['right'])} of those were right ({in_percent(CERTAIN, 0)} were asked "
        "for). Temperature, band and thresholds were fitted on left-out sources; each part was "
        "judged by what was fitted on the others.",
        table(["operating point", "threshold", "REAL called FAKE", "FAKE found"], rows),
        "The 95 % intervals draw sources anew, not pictures: the next picture comes from another "
        "source. When the thresholds are fitted, of no source of at least "
        f"{FEWEST} photographs more than the promised share may be called FAKE; verdicts are given "
        "at the first of them.",
    ]


def _changes(run: Run) -> list:
    means = run.read_csv("changes.csv").groupby("method", sort=False)
    images = means["images"].sum().iloc[0]
    rows = [
        [display_name(name), *(f"{value:.3f}" for value in row)]
        for name, *row in means[["roc_auc", "tpr_5"]].mean().itertuples()
    ]
    return [
        f"{images:,} pictures of left-out sources, as they are and changed:",
        table(["change", "ROC AUC", "found at 5 % false alarms"], rows),
    ]


def _by_source(run: Run) -> list:
    rows = [
        [
            f"`{row['source']}`",
            CLASS_NAMES[row["label"]],
            f"{row['images']:,}",
            f"{in_percent(row['called_fake'], 0)} "
            f"({interval_in_percent(row['low'], row['high'], 0)})",
            in_percent(row["certain"], 0),
            "–" if pd.isna(row["right"]) else in_percent(row["right"], 0),
        ]
        for _, row in run.read_csv("sources.csv").iterrows()
    ]
    headings = ["called FAKE at 5 % false alarms", "got a verdict", "of those right"]
    return [table(["source", "class", "pictures", *headings], rows)]


def _data(run: Run) -> list:
    origins = run.read_csv("origins.csv").fillna("")
    known = [name for name in _ORIGIN if name in origins]
    rows = [
        [
            f"`{row['source']}`",
            CLASS_NAMES[row["label"]],
            f"{row['images']:,}",
            *(_origin(name, str(row[name])) for name in known),
        ]
        for _, row in origins.iterrows()
    ]
    counts = origins.groupby("label")["images"].sum()
    return [
        f"{counts[0]:,} REAL and {counts[1]:,} FAKE pictures of {len(origins)} sources. None is "
        "part of this project; licences as the sources state them:",
        table(["source", "class", "pictures", *known], rows),
    ]


def _origin(name: str, value: str) -> str:
    value = value.replace("|", "/")
    return f"`{value[:10]}`" if name == "commit" and value else value or "–"
