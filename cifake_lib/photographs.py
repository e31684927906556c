"""A detector of photographs, judged on sources that it has never seen.

Inside one collection the motif, the camera or the web site tell the label, so images dealt out one
by one flatter every detector. Here whole sources are left out, a few at a time: what a model says
of them is what it may say of a picture of unknown origin.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from cifake_lib import (
    corruptions,
    cross_validation,
    engine,
    index_file,
    models,
    results,
    runs,
    scope,
    training,
    unseen_sources,
)
from cifake_lib.data import Dataset
from cifake_lib.detector import Detector
from cifake_lib.fine_tuning import FineTuning, Seen
from cifake_lib.framework import keras
from cifake_lib.images import fit_image
from cifake_lib.patches import vote
from cifake_lib.pixels import take_rows
from cifake_lib.views import photo_views

CHANGES = {"jpeg_60": ("jpeg", 60), "resize_half": ("resize", 0.5)}  # family and level
_SCOPE_IMAGES, _SCOPE_COMPONENTS = 2000, 64  # looked at, and kept of the network's features
_TOGETHER = 8  # photographs asked about in one call, some five views of each


def predict_logits(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, *, change: tuple | None = None
) -> np.ndarray:
    """Ask a model about photographs, as the dashboard does: the mean over several views.

    Args:
        model: One logit of a square.
        images: uint8 `(images, side, side, 3)`; may be a memory map.
        rows: Row numbers of those to ask about.
        change: Family of corruptions and its level, which each goes through before.

    Returns:
        float64 `(rows,)`.
    """
    side, logits = model.input_shape[1], []
    with tqdm(desc="Asking about photographs", total=len(rows), unit="image", delay=1) as progress:
        for start in range(0, len(rows), _TOGETHER):
            part = take_rows(images, rows[start : start + _TOGETHER])
            if change:
                family = corruptions.CORRUPTIONS[change[0]].function
                part = [family(image, change[1], np.random.default_rng(0)) for image in part]
            views = [photo_views(Image.fromarray(image), side) for image in part]
            seen = np.asarray(model.predict_on_batch(np.concatenate(views))).ravel()
            ends = np.cumsum([len(each) for each in views])[:-1]
            logits += [each.mean(dtype=np.float64) for each in np.split(seen, ends)]
            progress.update(len(part))
    return np.array(logits)


def ask_detector(
    detector: Detector, images: np.ndarray, *, patched: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Ask the models of CIFAKE about photographs, in the two ways that there are.

    Args:
        detector: Models of small images.
        images: uint8 `(images, side, side, 3)`; may be a memory map.
        patched: Row numbers of those that are also cut into patches which vote; see `patches`.

    Returns:
        Two float64 arrays `(images,)` of the ensemble's probability of FAKE: of the shrunk picture;
        and of its patches together, NaN for pictures that were not asked about so.
    """
    shrunk, voted = [], np.full(len(images), np.nan)
    with tqdm(desc="Asking the models of CIFAKE", total=len(images), unit="image", delay=1) as bar:
        for start in range(0, len(images), 64):
            part = take_rows(images, np.arange(start, min(start + 64, len(images))))
            shrunk += [verdict.p_fake for verdict in detector.predict(part)]
            bar.update(len(part))
    for row in tqdm(patched, desc="Letting patches vote", unit="image", delay=1):
        together = vote(detector, Image.fromarray(take_rows(images, np.array([row]))[0])).together
        voted[row] = np.nan if together is None else together.p_fake
    return np.array(shrunk), voted


def cross_train(
    tuning: FineTuning,
    dataset: Dataset,
    images: np.ndarray,
    parts: Sequence[Sequence[str]],
    *,
    folder: Path,
    side: int,
    changed_images: int = 0,
    seen: Seen | None = None,
) -> pd.DataFrame:
    """Train once for each part of the sources that is left out, and ask about that part.

    What is asked is kept in the folder after each training, and not trained for again: with the
    same folder it goes on where it was interrupted, in the midst of a training too.

    Args:
        tuning: The recipe.
        dataset: An indexed data set; its own split is not looked at.
        images: Of the whole data set, row for row.
        parts: See `cross_validation.leave_out`.
        folder: For one `fold-<number>.csv` a part, and checkpoints while it trains.
        side: Of the squares that the trained networks are asked about.
        changed_images: Of each part so many images, drawn at random, are asked about once more
            after each of `CHANGES`.
        seen: See `FineTuning.train`.

    Returns:
        One row an image, part after part: `path`, `label`, `source`, `fold` from 0, `logit`, and
        `logit_<change>`, NaN for those not drawn.
    """
    asked = []
    for number, left in enumerate(cross_validation.leave_out(dataset, parts, seed=tuning.seed)):
        stored = folder / f"fold-{number}.csv"
        if not stored.is_file():
            checkpoints = folder / f"fold-{number}"
            checkpoints.mkdir(parents=True, exist_ok=True)
            trained, _ = tuning.train(left, images, checkpoints=checkpoints, seen=seen)
            rows = np.flatnonzero(left.rows("test"))
            table = _ask(tuning.at_side(trained, side), dataset, images, rows, changed_images)
            # By rename: half a table must not be taken for a fold that is done.
            unfinished = checkpoints / stored.name
            table.assign(fold=number).to_csv(unfinished, index=False)
            unfinished.replace(stored)
            shutil.rmtree(checkpoints)
        asked.append(pd.read_csv(stored))
    return pd.concat(asked, ignore_index=True)


def _ask(model, dataset: Dataset, images, rows: np.ndarray, changed: int) -> pd.DataFrame:
    table = dataset.table.loc[rows, ["path", "label", "source"]].reset_index(drop=True)
    table["logit"] = predict_logits(model, images, rows)
    drawn = np.random.default_rng(0).permutation(len(rows))[:changed]
    for name, change in CHANGES.items():
        table[f"logit_{name}"] = np.nan
        table.loc[drawn, f"logit_{name}"] = predict_logits(
            model, images, rows[drawn], change=change
        )
    return table


def cross_probe(
    features: np.ndarray, dataset: Dataset, parts: Sequence[Sequence[str]], *, seed: int = 0
) -> np.ndarray:
    """Test a logistic regression on features, part after part of the sources left out.

    Args:
        features: `(images, D)`, row for row as `dataset.table`.
        dataset: An indexed data set; its own split is not looked at.
        parts: See `cross_validation.leave_out`.
        seed: Of the split, which plays no part here but must be one.

    Returns:
        Probability of FAKE of every image, `(images,)`, by the regression that knows no image of
        its source.
    """
    p_fake = np.full(len(dataset.table), np.nan)
    for left in cross_validation.leave_out(dataset, parts, seed=seed):
        p_fake[left.rows("test")] = cross_validation.probe(features, left)
    return p_fake


def with_columns(left_out: pd.DataFrame, dataset: Dataset, **scores: np.ndarray) -> pd.DataFrame:
    """Join scores of every image of a data set, row for row as its table, to what was left out."""
    table = dataset.table[["path"]].assign(**scores)
    return left_out.merge(table, on="path", how="left", validate="one_to_one")


def whole(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Return a data set of which all is trained on but an eighth, which is validated on."""
    (first, *_) = cross_validation.folds(dataset, count=8, repeats=1, seed=seed)
    split = first.table["split"].replace({"validation": "train", "test": "validation"})
    return replace(dataset, table=dataset.table.assign(split=split))


def origins(dataset: Dataset) -> pd.DataFrame:
    """Count the images by where they come from, for the card of a model that learned from them.

    Args:
        dataset: An indexed data set, with an `index.csv` or without.

    Returns:
        One row for each origin: `label`, `source`, what the index tells of `repository`, `commit`,
        `licence` and `kind` (the most common ones), and `images`.
    """
    table = dataset.table[["path", "label", "source"]]
    if file := index_file.find_index_file(dataset.folder):
        told = index_file.read_origins(file, beneath=dataset.folder).drop_duplicates("path")
        table = table.merge(told, on="path", how="left").fillna("")
    by = table.groupby([name for name in table if name not in ("path", "kind")])
    found = by.size().rename("images").to_frame()
    if "kind" in table:
        found.insert(0, "kind", by["kind"].agg(_most_common))
    return found.reset_index()


def _most_common(kinds: pd.Series, count: int = 3) -> str:
    """Name the most common of some kinds, and say how many more there are."""
    names = list(kinds[kinds != ""].value_counts().index)
    more = [f"{len(names) - count} more"] if len(names) > count else []
    return ", ".join([*names[:count], *more])


def fit_scope(model: keras.Model, dataset: Dataset, images: np.ndarray) -> scope.Scope:
    """Fit the check whether a photograph is like those that a model learned from.

    Args:
        model: Trained, for squares of the side it is to be asked about.
        dataset: What it was trained on; its validation split sets the threshold.
        images: Of the whole data set, row for row.
    """
    side, rng = model.input_shape[1], np.random.default_rng(0)

    def some(split: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.sort(rng.permutation(np.flatnonzero(dataset.rows(split)))[:_SCOPE_IMAGES])
        whole = [fit_image(Image.fromarray(image), side) for image in take_rows(images, rows)]
        return np.stack(whole), dataset.table["label"].to_numpy()[rows]

    return scope.Scope.fit(
        model, some("train"), some("validation")[0], components=_SCOPE_COMPONENTS
    )


def finish(
    run: runs.ActiveRun,
    model: keras.Model,
    dataset: Dataset,
    images: np.ndarray,
    history: pd.DataFrame,
    left_out: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    tuning: FineTuning,
    method: str = "logit",
) -> runs.Run:
    """Store a model that was trained on all sources, with what left-out sources say of its recipe.

    Temperature, operating points and the band of uncertainty come from the images of left-out
    sources, which other networks of the same recipe answered; the stored one knows them all.

    Args:
        run: The run to finish.
        model: Trained, for squares of the side it is to be asked about.
        dataset: What it was trained on.
        images: Of the whole data set, row for row.
        history: As `training.train` returned it.
        left_out: As `cross_train` returns it.
        scores: As `unseen_sources.fold_scores` returns it, of this model and others.
        tuning: The recipe.
        method: Name of this model among them.

    Returns:
        The complete run: weights, the same for the light engine, `history.csv`, `left_out.csv`,
        `folds.csv`, `sources.csv`, `origins.csv`, `scope.npz` and `metrics.json`.
    """
    weights = run.folder / runs.WEIGHTS
    builder, arguments = tuning.network(model.input_shape[1])
    results.save_weights(model, weights)
    results.halve_weights(weights, mantissa=7)
    try:
        stored = runs.rebuild(builder, arguments, weights)
        engine.export(stored, run.folder / engine.FILE, kernels="int8")
    except engine.NotConvertible as error:
        run.notes.append(str(error))
    fitted = unseen_sources.calibrate(left_out)
    judged = unseen_sources.cross_calibrate(left_out)
    own = scores[scores["method"] == method]
    metrics = {name: float(own[name].mean()) for name in ("roc_auc", "tpr_5", "tpr_1")}
    metrics |= {"count": len(left_out), **unseen_sources.promises(judged)}
    run.write_csv("history.csv", history)
    run.write_csv("left_out.csv", judged.round(6))
    for stored in run.folder.glob("fold-*.csv"):
        stored.unlink()  # All of them are in that table now.
    run.write_csv("folds.csv", scores)
    run.write_csv("sources.csv", unseen_sources.source_scores(judged))
    run.write_csv("origins.csv", origins(dataset))
    fit_scope(model, dataset, images).save(run.folder / scope.FILE)
    run.write_json("metrics.json", metrics)
    if not tuning.epochs:  # Then the images that validate were learned from, too.
        dataset = replace(dataset, table=dataset.table.assign(split="train"))
    return run.finish(
        data=dataset.manifest(),
        model={
            "builder": builder,
            "arguments": arguments,
            "display_name": models.model_name(builder, arguments),
            "parameters": model.count_params(),
            "input_size": model.input_shape[1],
            "crop": "centre",
            "view_averaged": False,
            "photo_views": True,
            "weights": runs.WEIGHTS,
            "weights_bytes": weights.stat().st_size,
        },
        **fitted,
        metrics=metrics,
        training=training.training_summary(history),
    )
