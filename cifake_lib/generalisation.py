"""How far a detector carries: to photographs of other origin, and to other generators."""

from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cifake_lib import generated, scope
from cifake_lib.corruptions import CORRUPTIONS, corrupt_batch
from cifake_lib.data import CLASS_NAMES, KNOWN_ORIGIN, Dataset
from cifake_lib.intervals import share_interval
from cifake_lib.pixels import TOGETHER_BYTES, Pictures, groups, parts_of, take_rows
from cifake_lib.robustness import Images, Score, score_parts


def origin(path: str, *, default: str) -> str:
    """Return where an image comes from, read from its path: `FAKE/glide/7.png` is from `glide`.

    Args:
        path: Of an image in a data set, with `/`.
        default: Returned if there is no folder below that of the class.
    """
    folders = PurePosixPath(path).parts[:-1]
    classes = [index for index, name in enumerate(folders) if name.upper() in CLASS_NAMES]
    below = folders[classes[-1] + 1 :] if classes else ()
    return below[0] if below else default


def made_here(
    train: np.ndarray, test: np.ndarray, *, count: int, epochs: int = 12, seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw FAKE images with the generators of `generated`.

    Args:
        train: Photographs that the generators learn from, uint8 `(N, S, S, 3)`.
        test: Photographs that they have not seen, at least `count`.
        count: Images of each generator.
        epochs: Passes of the autoencoder over `train`.
        seed: Of all that is random.

    Returns:
        uint8 images `(2 × count, S, S, 3)`, and one row each: `origin` and `label` (1, FAKE).
    """
    autoencoder = generated.train_autoencoder(train, epochs=epochs, seed=seed)
    drawn = {
        "principal_components": generated.principal_components(train, count, seed=seed),
        "autoencoder": generated.reconstruct(autoencoder, test[:count]),
    }
    facts = pd.DataFrame({"origin": np.repeat(list(drawn), count), "label": 1})
    return np.concatenate(list(drawn.values())), facts


def facts(dataset: Dataset) -> pd.DataFrame:
    """Return `origin` and `label` of each image of a data set, row for row.

    The origin is the source that `index.csv` names, else the folder below that of the class.
    """
    table = dataset.table
    origins = [
        source or origin(path, default=dataset.name)
        for path, source in zip(table["path"], table["source"], strict=True)
    ]
    return pd.DataFrame({"origin": origins, "label": dataset.table["label"].to_numpy()})


def score_origins(
    score: Score,
    *parts: tuple[Images, pd.DataFrame],
) -> pd.DataFrame:
    """Score images of several origins.

    Args:
        score: As for `robustness.score_parts`.
        parts: N images as `score` takes them, and their rows with `origin` and `label`.

    Returns:
        The rows of all parts, with `<key>_p_fake` of each model.
    """
    images, tables = zip(*parts, strict=True)
    scored = score_parts(score, enumerate(images)).values()
    columns = [
        pd.DataFrame({f"{key}_p_fake": values for key, values in found.items()}) for found in scored
    ]
    return pd.concat(tables, ignore_index=True).join(pd.concat(columns, ignore_index=True))


def by_origin(scored: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Measure models on images of several origins.

    Args:
        scored: One row per image: `origin` (`KNOWN_ORIGIN` for the test images), `label`, and
            `<key>_p_fake` of each model.
        keys: The models.

    Returns:
        One row per origin, class and model: `origin`, `class`, `model`, `images`, `called_fake`
        (share), `mean_p_fake`, and `roc_auc` against the known images of the other class: for a
        generator, how well its images are told from the known photographs; for photographs of
        other origin, how well from the known FAKE. .5 is guessing; NaN without such images.
    """
    known = scored[scored["origin"] == KNOWN_ORIGIN]
    rows = []
    for (name, label), part in scored.groupby(["origin", "label"], sort=False):
        others = known[known["label"] != label]
        together = pd.concat([part, others])
        for key in keys:
            column = f"{key}_p_fake"
            auc = np.nan
            if len(others):
                auc = roc_auc_score(together["label"], together[column])
            rows.append(
                {
                    "origin": name,
                    "class": CLASS_NAMES[label],
                    "model": key,
                    "images": len(part),
                    "called_fake": (part[column] >= 0.5).mean(),
                    "mean_p_fake": part[column].mean(),
                    "roc_auc": auc,
                }
            )
    return pd.DataFrame(rows)


def scope_kinds(
    score: Score,
    pictures: Pictures,
    labels: np.ndarray,
    *,
    key: str,
    count: int = 100,
    severity: int = 3,
    seed: int = 0,
) -> dict[str, tuple[Pictures, np.ndarray | None, np.ndarray | None]]:
    """Gather what a scope check is tried on: known images, the same corrupted, and strangers.

    Args:
        score: As for `robustness.score_parts`; `ensemble` is among its model keys.
        pictures: Test images, N of them.
        labels: Theirs, `(N,)`.
        key: Model whose size the strangers are made at.
        count: Images of each corruption and of each kind of stranger, at most N.
        severity: Of the corruptions, 1–5.
        seed: Of all that is random.

    Returns:
        As `scope_table` takes it: `known`, each corruption, each kind of `generated.strangers`.
    """
    some, theirs = pictures[:count], labels[:count]
    parts = {"known": pictures}
    for name in CORRUPTIONS:
        parts[name] = some.map(partial(corrupt_batch, name=name, severity=severity, seed=seed))
    scored = score_parts(score, parts.items())
    kinds = {
        name: (part, labels if name == "known" else theirs, scored[name]["ensemble"])
        for name, part in parts.items()
    }
    for name, made in generated.strangers(some.of(key), count=len(some), seed=seed).items():
        kinds[f"stranger: {name}"] = (some.like(made), None, None)
    return kinds


def scope_table(
    fitted: scope.Scope,
    model,
    kinds: Mapping[str, tuple[Pictures, np.ndarray | None, np.ndarray | None]],
    *,
    key: str,
) -> pd.DataFrame:
    """Measure what the scope check does with images of several kinds.

    Args:
        fitted: The check.
        model: The network it was fitted with.
        kinds: Name → N pictures, and, where there is a truth, labels `(N,)` and p_fake `(N,)`, else
            None twice.
        key: Of that network.

    Returns:
        One row per kind: `kind`, `images`, `outside` (share called unlike what the model knows)
        with its 95 % Wilson interval `outside_low` to `outside_high`, and the share of verdicts
        that are right inside (`accuracy_inside`) and outside (`accuracy_outside`), NaN without
        labels or without such images.
    """
    far = {}
    for places, pictures in groups((kind, images) for kind, (images, _, _) in kinds.items()):
        outside = _outside(fitted, model, *pictures.seen_by(key))
        far |= {kind: outside[place] for kind, place in places.items()}
    rows = []
    for kind, (images, labels, p_fake) in kinds.items():
        outside = far[kind]
        low, high = share_interval(outside.sum(), len(images))
        row = {"kind": kind, "images": len(images), "outside": outside.mean()}
        row |= {"outside_low": low, "outside_high": high}
        right = None if labels is None else (p_fake >= 0.5) == labels
        for name, chosen in (("inside", ~outside), ("outside", outside)):
            row[f"accuracy_{name}"] = (
                np.nan if right is None or not chosen.any() else right[chosen].mean()
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _outside(fitted: scope.Scope, model, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if len(rows) * images[:1].nbytes <= TOGETHER_BYTES:
        return fitted.outside(model, take_rows(images, rows))
    parts = parts_of(images, rows, what="Checking")
    return np.concatenate([fitted.outside(model, part) for part in parts])


def right_and_wrong(y_true: np.ndarray, p_fake: np.ndarray, *, each: int = 2) -> np.ndarray:
    """Choose images to explain: of each class some right ones and the most confident mistakes.

    Args:
        y_true: int array, shape (N,), 0 = REAL, 1 = FAKE.
        p_fake: float array, shape (N,).
        each: Images of each class and kind, fewer where there are fewer.

    Returns:
        Positions, right ones first.
    """
    y_true, p_fake = np.asarray(y_true), np.asarray(p_fake)
    right = (p_fake >= 0.5) == y_true
    surest = np.argsort(-np.abs(p_fake - 0.5), kind="stable")
    chosen = [np.flatnonzero(right & (y_true == label))[:each] for label in (0, 1)]
    chosen += [surest[(~right & (y_true == label))[surest]][:each] for label in (0, 1)]
    return np.concatenate(chosen)


def summary(severity: pd.DataFrame, deliveries: pd.DataFrame, scoped: pd.DataFrame) -> dict:
    """Sum up the ensemble for a manifest.

    Args:
        severity: As `robustness.robustness_table` returns it.
        deliveries: As `robustness.delivery_table` returns it.
        scoped: As `scope_table` returns it.

    Returns:
        `corrupted_accuracy`, the mean over all conditions; `reversed_conditions`, in how many it is
        below .5; `flipped`, the largest share of verdicts that a delivery turns around; and
        `known_outside`, the share of test images that the scope check refuses.
    """
    own = severity[(severity["model"] == "ensemble") & (severity["corruption"] != "clean")]
    sent = deliveries[deliveries["model"] == "ensemble"]
    return {
        "corrupted_accuracy": float(own["accuracy"].mean()),
        "reversed_conditions": int((own["accuracy"] < 0.5).sum()),
        "flipped": float(sent["flipped"].max()),
        "known_outside": float(scoped.set_index("kind").loc["known", "outside"]),
    }
