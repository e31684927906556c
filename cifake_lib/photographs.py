"""A detector of photographs, judged on sources that it has never seen.

Inside one collection the motif, the camera or the web site tell the label, so images dealt out one
by one flatter every detector. Here whole sources are left out, a few at a time: what a model says
of them is what it may say of a picture of unknown origin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm.auto import tqdm

from cifake_lib import (
    calibration,
    corruptions,
    cross_validation,
    engine,
    evaluation,
    models,
    results,
    runs,
    selective,
    training,
)
from cifake_lib.data import Dataset
from cifake_lib.detector import Detector
from cifake_lib.fine_tuning import FineTuning
from cifake_lib.framework import keras
from cifake_lib.intervals import share_interval
from cifake_lib.patches import vote
from cifake_lib.pixels import take_rows
from cifake_lib.views import photo_views

CHANGES = {"jpeg_60": ("jpeg", 60), "resize_half": ("resize", 0.5)}  # family and level
CERTAIN = 0.9  # share of right answers among those that are not UNCERTAIN
FEWEST = 50  # photographs of a source from which on its own false alarms are looked at
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


def at_side(tuning: FineTuning, trained: keras.Model, side: int) -> keras.Model:
    """Return a trained network for squares of another side; its weights do not depend on it."""
    values = {**tuning.arguments, "image_size": side, "input_size": side}
    builder, arguments = models.choose(tuning.builder, **values)
    other = models.build_model(builder, **arguments)
    other.set_weights(trained.get_weights())
    return other


def cross_train(
    tuning: FineTuning,
    dataset: Dataset,
    images: np.ndarray,
    parts: Sequence[Sequence[str]],
    *,
    folder: Path,
    side: int,
    changed_images: int = 0,
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
            trained, _ = tuning.train(left, images, checkpoints=checkpoints)
            rows = np.flatnonzero(left.rows("test"))
            table = _ask(at_side(tuning, trained, side), dataset, images, rows, changed_images)
            table.assign(fold=number).to_csv(stored, index=False)
            _delete(checkpoints)
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


def _delete(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


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


def fold_scores(left_out: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """Measure how well each method ranks, in each fold by itself.

    Args:
        left_out: `label`, `fold`, and a column of scores for each method.
        methods: Name → column; higher is FAKE. Images without a score are left out, and folds in
            which only one class has scores.

    Returns:
        One row a method and fold: `method`, `fold`, `images`, `roc_auc`, and the true-positive
        rates at 5 % and 1 % false alarms, `tpr_5` and `tpr_1`.
    """
    rows = []
    for method, column in methods.items():
        scored = left_out.dropna(subset=[column])
        for fold, part in scored.groupby("fold"):
            if part["label"].nunique() < 2:
                continue
            alarms, hits, _ = roc_curve(part["label"], part[column])
            at = {f"tpr_{percent}": np.interp(percent / 100, alarms, hits) for percent in (5, 1)}
            auc = roc_auc_score(part["label"], part[column])
            rows.append({"method": method, "fold": fold, "images": len(part), "roc_auc": auc} | at)
    return pd.DataFrame(rows)


def calibrate(left_out: pd.DataFrame) -> dict:
    """Fit what turns logits into verdicts, on images of sources that were left out.

    Args:
        left_out: `label`, `source`, `logit`.

    Returns:
        `temperature`; `thresholds` by name, see `evaluation.operating_points`, but so high that of
        no source of at least `FEWEST` photographs more than twice the promised share is called
        FAKE; and `certain_from`, see `selective.certain_from`.
    """
    y_true, logits = left_out["label"].to_numpy(), left_out["logit"].to_numpy()
    temperature = calibration.fit_temperature(y_true, logits)
    p_fake = calibration.probability(logits, temperature)
    thresholds = evaluation.operating_points(y_true, p_fake)
    real = left_out.assign(p_fake=p_fake)[y_true == 0]
    large = real[real.groupby("source")["label"].transform("size") >= FEWEST]
    for percent in (5, 1):
        # The next value above: what lies at the quantile itself is not called FAKE.
        own = large.groupby("source")["p_fake"].quantile(1 - 2 * percent / 100, "higher")
        highest = float(np.nextafter(own.max(), 2)) if len(own) else 0.0
        thresholds[f"fpr_{percent}"] = max(thresholds[f"fpr_{percent}"], highest)
    return {
        "temperature": temperature,
        "thresholds": thresholds,
        "certain_from": selective.certain_from(y_true, p_fake, accuracy=CERTAIN),
    }


def cross_calibrate(left_out: pd.DataFrame) -> pd.DataFrame:
    """Judge each fold by what was fitted on the others: no image has a say in its own verdict.

    Args:
        left_out: `label`, `source`, `fold`, `logit`.

    Returns:
        The same rows with `p_fake`, `certain`, and `called_<point>`, whether FAKE at that
        operating point.
    """
    judged = []
    for fold, part in left_out.groupby("fold"):
        fitted = calibrate(left_out[left_out["fold"] != fold])
        p_fake = calibration.probability(part["logit"].to_numpy(), fitted["temperature"])
        called = {f"called_{name}": p_fake >= at for name, at in fitted["thresholds"].items()}
        certain = np.maximum(p_fake, 1 - p_fake) >= fitted["certain_from"]
        judged.append(part.assign(p_fake=p_fake, certain=certain, **called))
    return pd.concat(judged)


def source_scores(judged: pd.DataFrame) -> pd.DataFrame:
    """Measure each source by itself.

    Args:
        judged: As `cross_calibrate` returns it.

    Returns:
        One row a source, photographs first: `source`, `label`, `fold`, `images`, `called_fake`,
        the share of its images called FAKE at 5 % false alarms, with its 95 % interval `low` and
        `high`; `certain`, the share that got a verdict, and `right` of those.
    """
    rows = []
    for (label, source), part in judged.groupby(["label", "source"]):
        called = part["called_fpr_5"]
        low, high = share_interval(int(called.sum()), len(part))
        sure = part[part["certain"]]
        rows.append(
            {
                "source": source,
                "label": label,
                "fold": part["fold"].iloc[0],
                "images": len(part),
                "called_fake": called.mean(),
                "low": low,
                "high": high,
                "certain": part["certain"].mean(),
                "right": ((sure["p_fake"] >= 0.5) == label).mean() if len(sure) else np.nan,
            }
        )
    return pd.DataFrame(rows)


def promises(judged: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> dict:
    """Sum up what the verdicts on left-out sources were worth.

    Args:
        judged: As `cross_calibrate` returns it.
        resamples: Of the intervals.
        seed: Of the resampling.

    Returns:
        `coverage`, the share of images with a verdict; `right`, the share of right ones among
        those; and `operating_points`: name → `true_positive_rate` and `false_positive_rate`, with
        95 % intervals under the same names and `_interval`. What is resampled for them is sources,
        not images (bootstrap of clusters): the next picture comes from another source.
    """
    sure = judged[judged["certain"]]
    right = ((sure["p_fake"] >= 0.5) == sure["label"]).mean() if len(sure) else None
    points = {}
    for name in judged.filter(like="called_"):
        rates = {}
        for label, rate in enumerate(("false_positive_rate", "true_positive_rate")):
            part = judged[judged["label"] == label]
            rates[rate] = float(part[name].mean())
            by_source = part.groupby("source")[name].agg(["sum", "size"]).to_numpy()
            rng = np.random.default_rng(seed)
            drawn = by_source[rng.integers(0, len(by_source), (resamples, len(by_source)))]
            shares = drawn[..., 0].sum(axis=1) / drawn[..., 1].sum(axis=1)
            rates[f"{rate}_interval"] = np.quantile(shares, [0.025, 0.975]).tolist()
        points[name.removeprefix("called_")] = rates
    return {
        "coverage": len(sure) / len(judged),
        "right": None if right is None else float(right),
        "operating_points": points,
    }


def with_columns(left_out: pd.DataFrame, dataset: Dataset, **scores: np.ndarray) -> pd.DataFrame:
    """Join scores of every image of a data set, row for row as its table, to what was left out."""
    table = dataset.table[["path"]].assign(**scores)
    return left_out.merge(table, on="path", how="left", validate="one_to_one")


def whole(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Return a data set of which all is trained on but an eighth, which is validated on."""
    (first, *_) = cross_validation.folds(dataset, count=8, repeats=1, seed=seed)
    split = first.table["split"].replace({"validation": "train", "test": "validation"})
    return replace(dataset, table=dataset.table.assign(split=split))


def finish(
    run: runs.ActiveRun,
    model: keras.Model,
    dataset: Dataset,
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
        history: As `training.train` returned it.
        left_out: As `cross_train` returns it.
        scores: As `fold_scores` returns it, of this model and others.
        tuning: The recipe.
        method: Name of this model among them.

    Returns:
        The complete run: weights, the same for the light engine, `history.csv`, `left_out.csv`,
        `folds.csv`, `sources.csv` and `metrics.json`.
    """
    weights, builder = run.folder / runs.WEIGHTS, tuning.builder
    arguments = {**tuning.arguments, "image_size": model.input_shape[1]}
    builder, arguments = models.choose(builder, **{**arguments, "input_size": model.input_shape[1]})
    results.save_weights(model, weights)
    results.halve_weights(weights)
    try:
        engine.export(runs.rebuild(builder, arguments, weights), run.folder / engine.FILE)
    except engine.NotConvertible as error:
        run.notes.append(str(error))
    fitted, judged = calibrate(left_out), cross_calibrate(left_out)
    own = scores[scores["method"] == method]
    metrics = {name: float(own[name].mean()) for name in ("roc_auc", "tpr_5", "tpr_1")}
    metrics |= {"count": len(left_out), **promises(judged)}
    run.write_csv("history.csv", history)
    run.write_csv("left_out.csv", judged)
    run.write_csv("folds.csv", scores)
    run.write_csv("sources.csv", source_scores(judged))
    run.write_json("metrics.json", metrics)
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
