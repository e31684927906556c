"""Model cards, the ensemble's card and the data card, written from the released run files.

No figure in a card is typed: `write` makes the cards and `outdated` lists those that differ from
the files. The sections are those of Mitchell et al. 2019, "Model cards for model reporting", and
Gebru et al. 2021, "Datasheets for datasets".
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from cifake_lib import data, paths, runs, sample, splits
from cifake_lib.cards_beyond import beyond_sections
from cifake_lib.cards_photographs import photo_sections
from cifake_lib.cards_results import result_sections
from cifake_lib.cards_training import energy, hardware, initial_weights, listed, training_sections
from cifake_lib.names import in_percent
from cifake_lib.runs import Run
from cifake_lib.summary import table

_WHAT = {
    "baseline_cnn": "A plain convolutional network: blocks of convolutions, pooling, one output.",
    "tuned_cnn": "A convolutional network whose shape and training were chosen by a search.",
    "resnet50": "ResNet-50 (He et al. 2016) with one output.",
    "ensemble": "The weighted mean of its models' logits, each divided by its model's "
    "temperature; the mean "
    "is divided by a temperature of its own.",
}
_USE = [
    "For learning and teaching how detectors of generated images work, for experiments on CIFAKE, "
    "and as a baseline to beat.",
    "Not for judging a picture, its author or its truth, not as evidence, not for moderation. A "
    "verdict is a statistic over images like those in training, never proof about one image.",
]
LICENCE_STATEMENT = (
    'The dataset page says that it is "published under the same MIT license as CIFAR-10" and asks '
    "for both citations. That is a quotation and no advice: other pages contradict it."
)
CITATIONS = [
    'J. J. Bird and A. Lotfi, "CIFAKE: Image Classification and Explainable Identification of '
    'AI-Generated Synthetic Images", IEEE Access 12, 15642 (2024), '
    "[arXiv:2303.14126](https://arxiv.org/abs/2303.14126).",
    'A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", University of Toronto '
    "(2009): CIFAR-10, the source of the REAL images.",
]
_RESNET = (
    'K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR '
    "(2016): ResNet-50."
)
_NOTICE = "<!-- Made from run files by `python -m cifake_lib.report`; edits are lost. -->"


def model_card(stage: str) -> str:
    """Return the card of a released model, of `runs.MODEL_STAGES` or the photo model, as Markdown.

    Raises:
        runs.RunNotFound: The stage has not been released.
        runs.RunDamaged: A file that the card is made from differs from its manifest.
    """
    run = runs.find_run(stage, released=True)
    if stage == runs.PHOTO_MODEL:
        return _photo_card(run)
    manifest, model = run.manifest, run.manifest["model"]
    results = {"Results on the test split": ["Not measured: no released evaluation of this run."]}
    if _released("evaluation"):
        evaluation = runs.find_run("evaluation", released=True)
        if evaluation.measured(run, among_others=True):
            results = result_sections(stage, evaluation, {stage: run})
    made = [
        f"Built by `models.build_{model['builder']}` with {listed(model['arguments'])}.",
        f"Run `{run.run_id}`, seed {manifest['seed']}, commit `{manifest['git_commit']}`.",
    ]
    sections = {
        "What it is": [_WHAT[stage], [*_contract(model, {stage: run}), *made]],
        "Intended use": [_USE],
        **training_sections(run),
        **results,
        **beyond_sections(stage, run),
        "Licence and citation": _licence({stage: run}),
    }
    return _card(f"Model card: {model['display_name']}", sections)


def _photo_card(run: Run) -> str:
    sections = photo_sections(run) | {
        "Licence and citation": [
            "The code is under the [MIT licence](../../../LICENSE). Each source of pictures has "
            "terms of its own, see above.",
            initial_weights(run),
            [_RESNET],
        ]
    }
    return _card(f"Model card: {run.manifest['model']['display_name']} for photographs", sections)


def ensemble_card() -> str:
    """Return the card of the released ensemble as Markdown.

    Raises:
        runs.RunNotFound: No evaluation is released, or other models than it measured.
        runs.RunDamaged: A file that the card is made from differs from its manifest.
    """
    evaluation = runs.find_run("evaluation", released=True)
    members = evaluation.manifest["ensemble"]["members"]
    found = {stage: runs.find_run(stage, key, released=True) for stage, key in members.items()}
    whole = evaluation.read_json("metrics.json")["models"]["ensemble"]
    facts = evaluation.manifest["data"]
    rows = []
    for stage, run in found.items():
        name, parameters = (run.manifest["model"][key] for key in ("display_name", "parameters"))
        link = f"[{name}](../{stage}/MODEL_CARD.md)"
        weight = f"{evaluation.manifest['ensemble']['weights'][stage]:.3f}"
        rows.append([link, f"`{run.run_id}`", weight, f"{parameters:,}", hardware(run)])
    sections = {
        "What it is": [
            _WHAT["ensemble"],
            table(["model", "run", "weight", "parameters", "trained on"], rows),
            _contract(whole, found),
        ],
        "Intended use": [_USE],
        "Training data": [
            "That of its models, see their cards. It was fitted on the validation images of "
            f"`{facts['name']}`, split hash `{facts['split_hash']}`, and measured on its test "
            "images."
        ],
        "Training": [
            "Its weights, temperature and thresholds were fitted on validation images. Its models "
            f"were trained for {whole['training_seconds']:,.0f} s together.",
            energy(found),
        ],
        **result_sections("ensemble", evaluation, found),
        **beyond_sections("ensemble", *found.values()),
        "Licence and citation": _licence(found),
    }
    return _card("Model card: ensemble", sections)


def data_card() -> str:
    """Return the card of the released data run as Markdown.

    Raises:
        runs.RunNotFound: The data stage has not been released.
        runs.RunDamaged: A file that the card is made from differs from its manifest.
    """
    run = runs.find_run("data", released=True)
    facts, metrics = run.manifest["data"], run.read_json("metrics.json")
    size = run.manifest["parameters"]["image_size"]
    split = run.read_csv("split.csv.gz")
    indexed = data.Dataset(facts["name"], run.folder, split, split[:0], facts["split_hash"])
    named = split.assign(label=split["label"].map(dict(enumerate(data.CLASS_NAMES))))
    copies = named[split.duplicated("content_hash")]["label"].value_counts()
    named = named[named["object_class"] != ""]
    kinds = pd.crosstab(named["object_class"], named["label"])
    kinds = kinds.reindex(columns=data.CLASS_NAMES, fill_value=0)
    means = pd.DataFrame(metrics["channel_means"], index=["red", "green", "blue"]).T
    gap = (means.loc["REAL"] - means.loc["FAKE"]).abs()
    shares = {"test": splits.TEST_SHARE, "validation": splits.VALIDATION_SHARE}
    sides = [
        f"{name} is the data set's own folder"
        if (split["official_split"] == name).any()
        else f"{in_percent(share, 0)} of the buckets are for {name}"
        for name, share in shares.items()
    ]
    limits = [
        f"Exact copies: {copies.get('REAL', 0):,} of REAL, {copies.get('FAKE', 0):,} of FAKE.",
        _near_copies(metrics["copies"]["near pairs"]),
        "Each class was shrunk to this size by its makers: traces of the shrinking may tell them "
        "apart as well as traces of the generator.",
        "One source of photographs, one generator, one size.",
    ]
    sections = {
        "What it is": [
            f"The data set `{facts['name']}`: {metrics['images']:,} images, used at {size} × "
            f"{size} pixels. {metrics['skipped']:,} files could not be used and were left out.",
            "CIFAKE has two classes. REAL (0) are the photographs of CIFAR-10. FAKE (1) are "
            "pictures of the same kinds of object, made with Stable Diffusion 1.4 and shrunk. "
            "[data/README.md](../../../data/README.md) says where to get it.",
        ],
        "Counts": [
            indexed.summary(),
            kinds.rename_axis("kind of object"),
        ],
        "Split": [
            f"A hash of its content puts each image into a bucket: {', '.join(sides)}, the rest is "
            "for training. Exact copies share a bucket and so a side. From "
            f"{splits.SMALL:,} images on, the split of a part agrees with that of the whole.",
            f"Copies across an official boundary: {metrics['crossing']:,}. Split hash: "
            f"`{facts['split_hash']}`.",
        ],
        "Known shortcuts and limits": [
            f"The mean colours of the classes (0–255) differ most in {gap.idxmax()}, by "
            f"{gap.max():.1f}:",
            means.rename_axis("class"),
            "What a linear model reaches on validation images without seeing the picture:",
            table(
                ["features", "number", "accuracy (95 %)", "ROC AUC"],
                [
                    [
                        name,
                        str(reached["features"]),
                        f"{reached['accuracy']:.3f} "
                        f"({reached['accuracy_low']:.3f}–{reached['accuracy_high']:.3f})",
                        f"{reached['roc_auc']:.3f}",
                    ]
                    for name, reached in metrics["shortcuts"].items()
                ],
            ),
            limits,
        ],
        "The embedded sample": [
            f"`data/sample.zip` holds {sum(sample.SIZES.values()):,} images of CIFAKE's training "
            "folder, drawn evenly over class and kind of object, without exact copies. Its split "
            "agrees with that of the whole folder."
        ],
        "Licence and citation": [LICENCE_STATEMENT, CITATIONS],
    }
    return _card(f"Data card: {facts['name']}", sections)


def _near_copies(pairs: Mapping[str, int]) -> str:
    classes = [*data.CLASS_NAMES, "both classes"]
    return (
        f"Pairs of near copies (perceptual hashes at most 4 of 64 bits apart): "
        f"{', '.join(f'{pairs[name]:,} of {name}' for name in classes)}; "
        f"{pairs['across splits']:,} of them lie in two splits."
    )


def write() -> list[Path]:
    """Write the cards of all that is released; return their paths."""
    texts = _texts()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def outdated() -> list[Path]:
    """Return the paths of the cards that are missing or differ from what the files say."""
    return [
        path
        for path, text in _texts().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _texts() -> dict[Path, str]:
    makers = {
        **{
            stage: ("MODEL_CARD.md", partial(model_card, stage))
            for stage in (*runs.MODEL_STAGES, runs.PHOTO_MODEL)
        },
        "evaluation": ("ENSEMBLE_CARD.md", ensemble_card),
        "data": ("DATA_CARD.md", data_card),
    }
    return {
        paths.released_dir() / stage / name: make()
        for stage, (name, make) in makers.items()
        if _released(stage)
    }


def _released(stage: str) -> bool:
    return (paths.released_dir() / stage / "manifest.json").is_file()


def _card(title: str, sections: Mapping[str, list]) -> str:
    blocks = [f"# {title}", _NOTICE]
    for heading, parts in sections.items():
        if kept := [text for text in map(_markdown, parts) if text]:
            blocks += [f"## {heading}", *kept]
    return "\n\n".join(blocks) + "\n"


def _markdown(part: str | list[str] | pd.DataFrame) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "\n".join(f"- {line}" for line in part if line)
    rows = [
        [str(name), *(f"{value:{',.1f' if isinstance(value, float) else ','}}" for value in values)]
        for name, *values in part.itertuples()
    ]
    return table([part.index.name, *part.columns], rows) if rows else ""


def _contract(size: Mapping, found: Mapping[str, Run]) -> list[str]:
    models = [run.manifest["model"] for run in found.values()]
    side = models[0]["input_size"]
    averaged = all(model.get("view_averaged") for model in models)
    return [
        f"Input: RGB, uint8 or float in 0–255, shape `(batch, {side}, {side}, 3)`. Scaling is part "
        "of the model.",
        "Output: one logit an image; `p_fake = sigmoid(logit / temperature)`. FAKE is the positive "
        "class (1), REAL is 0.",
        "Each logit is the mean over four views of an image: moved up or down by a sixteenth of "
        "its height, mirrored or not."
        if averaged
        else "",
        f"Size: {size['parameters']:,} parameters; the weights take "
        f"{size['weights_bytes'] / 1e6:.2f} MB.",
    ]


def _licence(found: Mapping[str, Run]) -> list:
    resnet = found.get("resnet50")
    return [
        "The code is under the [MIT licence](../../../LICENSE).",
        f"The data: {LICENCE_STATEMENT[0].lower()}{LICENCE_STATEMENT[1:]}",
        initial_weights(resnet) if resnet else "",
        [*CITATIONS, _RESNET if resnet else ""],
    ]
