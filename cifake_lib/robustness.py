"""How much of a detector is left when its images are re-saved, shrunk, cropped or noisy."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from cifake_lib import pixels
from cifake_lib.corruptions import CORRUPTIONS, DELIVERIES, corrupt_batch, deliver_batch
from cifake_lib.evaluation import scores
from cifake_lib.intervals import bootstrap_interval
from cifake_lib.pixels import Pictures
from cifake_lib.selective import ConformalSets, set_coverage

Images = np.ndarray | Pictures
Score = Callable[[Images], Mapping[str, np.ndarray]]


def score_parts(
    score: Score, parts: Iterable[tuple[Hashable, Images]]
) -> dict[Hashable, dict[str, np.ndarray]]:
    """Score several sets of images, some at a time.

    Args:
        score: Function of uint8 images `(N, S, S, 3)`, or of pictures at several sizes, that
            returns model key → p_fake `(N,)`.
        parts: Name and images of each set, all of the same sides; they may be made when asked for.

    Returns:
        Name → model key → p_fake of the images of that name.
    """
    scored = {}
    for places, images in pixels.groups(parts):
        found = score(images)
        for name, place in places.items():
            scored[name] = {key: values[place] for key, values in found.items()}
    return scored


def robustness_table(
    predict: Score,
    images: Images,
    y_true: np.ndarray,
    *,
    conditions: Sequence[tuple[str, int]],
    sets: Mapping[str, ConformalSets] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure models on corrupted images.

    Accuracy at the fixed threshold falls for two reasons: because the classes can no longer be
    told apart (the ROC AUC falls with it) or because all scores moved to one side (it does not;
    one of the two rates collapses).

    Args:
        predict: as for `score_parts`.
        images: uint8 array, shape (N, S, S, 3), or pictures at several sizes; each size is changed
            by itself.
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        conditions: pairs of a name in `CORRUPTIONS` and a severity from 1 to 5.
        sets: model key → conformal sets, fitted on clean images, whose promise is to be tested.
        seed: of the corruptions and the intervals.

    Returns:
        DataFrame with one row a model and condition: `model`, `corruption`, `severity`, `level`
        (in the unit of the corruption), `accuracy` with its 95 % interval `accuracy_low` to
        `accuracy_high`, `true_positive_rate`, `true_negative_rate`, `roc_auc`; with `sets` also
        `coverage`, `coverage_real`, `coverage_fake` and `single`, see `selective.set_coverage`. The
        first rows are the untouched images: corruption "clean", severity 0.
    """
    rows, versions = [], _corrupted(images, conditions, seed)
    for (name, severity), scored in score_parts(predict, versions).items():
        for key, y_score in scored.items():
            measured = scores(y_true, y_score)
            low, high = bootstrap_interval(y_true, y_score, "accuracy", seed=seed)
            rows.append(
                {
                    "model": key,
                    "corruption": name,
                    "severity": severity,
                    "level": np.nan if name == "clean" else CORRUPTIONS[name].levels[severity - 1],
                    "accuracy": measured["accuracy"],
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "true_positive_rate": measured["recall_fake"],
                    "true_negative_rate": measured["recall_real"],
                    "roc_auc": measured["roc_auc"],
                }
            )
            if sets:
                rows[-1] |= set_coverage(y_true, sets[key].predict(y_score))
    return pd.DataFrame(rows)


def delivery_table(
    predict: Score,
    images: Images,
    y_true: np.ndarray,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what messengers, screenshots and feeds do to verdicts.

    Args:
        predict: as for `score_parts`.
        images: uint8 array, shape (N, S, S, 3), or pictures at several sizes; each size is changed
            by itself.
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE, both present.
        seed: of what is random on the way.

    Returns:
        DataFrame with one row a model and delivery: `model`, `delivery`, `accuracy`, `roc_auc`,
        `flipped` (share of images whose verdict is another than before), `real_flipped` and
        `fake_flipped` (the same of each class). The first rows are the untouched images: delivery
        "none".
    """
    scored = score_parts(predict, _delivered(images, seed))
    before, y_true = scored["none"], np.asarray(y_true)
    rows = []
    for name, after in scored.items():
        for key, y_score in after.items():
            measured = scores(y_true, y_score)
            flipped = (y_score >= 0.5) != (before[key] >= 0.5)
            rows.append(
                {
                    "model": key,
                    "delivery": name,
                    "accuracy": measured["accuracy"],
                    "roc_auc": measured["roc_auc"],
                    "flipped": flipped.mean(),
                    "real_flipped": flipped[y_true == 0].mean(),
                    "fake_flipped": flipped[y_true == 1].mean(),
                }
            )
    return pd.DataFrame(rows)


def _corrupted(
    images: Images, conditions: Sequence[tuple[str, int]], seed: int
) -> Iterator[tuple[tuple[str, int], Images]]:
    yield ("clean", 0), images
    for name, severity in conditions:
        change = partial(corrupt_batch, name=name, severity=severity, seed=seed)
        yield (name, severity), pixels.changed(images, change)


def _delivered(images: Images, seed: int) -> Iterator[tuple[str, Images]]:
    yield "none", images
    for name in DELIVERIES:
        yield name, pixels.changed(images, partial(deliver_batch, name=name, seed=seed))


def robustness_summary(table: pd.DataFrame, *, unseen: Sequence[str] = ()) -> pd.DataFrame:
    """Sum up the accuracy of each model over all conditions.

    Args:
        table: as `robustness_table` returns it.
        unseen: families of corruptions that training left out.

    Returns:
        DataFrame, index `model`: accuracy on `clean` images, `mean` over all conditions, in the
        `worst`, which one that is (`worst_condition`), and the mean over the families in `unseen`
        (NaN without any).
    """
    rows = {}
    for key, part in table.groupby("model", sort=False):
        corrupted = part[part["corruption"] != "clean"]
        worst = corrupted.loc[corrupted["accuracy"].idxmin()]
        rows[key] = {
            "clean": part.loc[part["corruption"] == "clean", "accuracy"].item(),
            "mean": corrupted["accuracy"].mean(),
            "worst": worst["accuracy"],
            "worst_condition": f"{worst['corruption']} {worst['level']:g}",
            "unseen": corrupted.loc[corrupted["corruption"].isin(unseen), "accuracy"].mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
