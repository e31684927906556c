"""Repeated stratified cross-validation: how good a recipe is on few images, and how sure that is.

A test split of a small collection holds too few images to tell a good model from a lucky one. Cut
the collection into folds, test on each in turn what the others trained, and every image counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from cifake_lib import evaluation, splits
from cifake_lib.data import Dataset, DatasetError

METRICS = ("accuracy", "f1", "roc_auc")
IMAGES, SOURCES = "images_mixed", "sources_left_out"
LEVEL = 0.95  # of the intervals
_VALIDATION_FOLDS = 8  # one of so many parts of what is left for training validates it
_REGULARISATION = 0.01  # scikit-learn's C: features outnumber the images


def folds(
    dataset: Dataset, *, count: int = 5, repeats: int = 2, seed: int = 0, by_source: bool = False
) -> Iterator[Dataset]:
    """Split a data set anew, several times over, so that each image is tested once a repeat.

    Classes keep their shares; copies of one file, and images of one `group`, stay on one side.

    Args:
        dataset: An indexed data set; its own split is not looked at.
        count: Folds of a repeat, at least 2.
        repeats: How often all images are dealt out anew.
        seed: Of the dealing.
        by_source: Whether whole sources are dealt out instead of images.

    Yields:
        `count × repeats` data sets, the same but for the column `split`: one fold is its test
        split, about an eighth of the others its validation split. A fold without both classes, as
        sources can make them, is left out.

    Raises:
        DatasetError: A class has too few groups of images, or too few sources.
    """
    table, labels = dataset.table, dataset.table["label"]
    groups = splits.units(table)
    dealt = table["source"] if by_source else groups
    fewest, needed = dealt.groupby(labels).nunique().min(), count if by_source else 2 * count
    if fewest < needed:
        kind = "sources" if by_source else "different images (or groups)"
        raise DatasetError(
            f"Expected at least {needed} {kind} of each class for {count} folds, received {fewest}."
        )
    for repeat in range(repeats):
        for rest, test in _dealt(labels, dealt, count, seed + repeat):
            left = labels.iloc[rest], groups.iloc[rest]
            _, validation = next(_dealt(*left, min(_VALIDATION_FOLDS, fewest), seed + repeat))
            split = np.full(len(table), "train", dtype=object)
            split[test], split[rest[validation]] = "test", "validation"
            if labels.groupby(split).nunique().min() == 2:
                yield replace(dataset, table=table.assign(split=split))


def deal_sources(dataset: Dataset, count: int, *, seed: int = 0) -> list[list[str]]:
    """Deal the sources of a data set into parts that `leave_out` takes.

    Args:
        dataset: An indexed data set.
        count: Parts; fewer where a class has fewer sources.
        seed: Of the dealing.

    Returns:
        Names of sources, sorted; in each part about as many images of each class.

    Raises:
        DatasetError: A class comes from a single source, or from none that is named.
    """
    sources = dataset.table["source"]
    fewest = sources.groupby(dataset.table["label"]).nunique().min()
    if fewest < 2:
        raise DatasetError(
            "Expected photographs of at least two sources, and generated images too, received "
            f"{fewest} for one of them: name them in the column source of an index.csv."
        )
    parts = folds(dataset, count=min(count, int(fewest)), repeats=1, seed=seed, by_source=True)
    return [sorted(sources[part.rows("test")].unique()) for part in parts]


def leave_out(
    dataset: Dataset, parts: Sequence[Sequence[str]], *, seed: int = 0
) -> Iterator[Dataset]:
    """Leave out sources, some of them at a time.

    Args:
        dataset: An indexed data set; its own split is not looked at.
        parts: Names of the sources to leave out together. Those of one site or one generator
            belong together, and in each part photographs and generated images that show alike.
        seed: Of what is validated.

    Yields:
        For each part the same data set with another `split`: the part's sources are tested, about
        an eighth of the rest is validated on.

    Raises:
        DatasetError: A part lacks one of the classes, or names a source that is not there; or a
            source is in none of them or in two.
    """
    table, labels = dataset.table, dataset.table["label"]
    groups, known = splits.units(table), set(table["source"])
    named = [source for part in parts for source in part]
    if wrong := sorted((known ^ set(named)) | {name for name in named if named.count(name) > 1}):
        raise DatasetError(f"Expected each source in one part of them, received otherwise {wrong}.")
    for part in parts:
        tested = table["source"].isin(part).to_numpy()
        if labels[tested].nunique() < 2 or labels[~tested].nunique() < 2:
            raise DatasetError(
                f"Expected photographs and generated images among the sources {sorted(part)} and "
                "among all others."
            )
        rest = np.flatnonzero(~tested)
        left = labels.iloc[rest], groups.iloc[rest]
        _, validation = next(_dealt(*left, _VALIDATION_FOLDS, seed))
        split = np.where(tested, "test", "train").astype(object)
        split[rest[validation]] = "validation"
        yield replace(dataset, table=table.assign(split=split))


def cross_validate(
    features: np.ndarray, dataset: Dataset, *, count: int = 5, repeats: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Test a logistic regression on the features of every image.

    Args:
        features: `(N, D)`, row for row as `dataset.table`, from a network that has not learned from
            these images.
        dataset: An indexed data set; its own split is not looked at.
        count: Folds of a repeat.
        repeats: How often all images are dealt out anew.
        seed: Of the dealing.

    Returns:
        One row a fold: `dealt`, "images_mixed" or, where both classes come from several sources,
        "sources_left_out"; `count`, folds of a repeat; and the metrics of `METRICS`.

    Raises:
        DatasetError: A class has too few images.
    """
    ways = [(IMAGES, folds(dataset, count=count, repeats=repeats, seed=seed), count)]
    sources = dataset.table["source"].groupby(dataset.table["label"]).nunique().min()
    if sources > 1:
        fewer = min(count, sources)
        dealt = folds(dataset, count=fewer, repeats=repeats, seed=seed, by_source=True)
        ways.append((SOURCES, dealt, fewer))
    rows = []
    with tqdm(desc="Cross-validating", total=repeats * sum(way[2] for way in ways), delay=1) as bar:
        for name, dealt, parts in ways:
            for part in dealt:
                y_true = part.table.loc[part.rows("test"), "label"].to_numpy()
                measured = evaluation.scores(y_true, probe(features, part))
                rows.append({"dealt": name, "count": parts} | {k: measured[k] for k in METRICS})
                bar.update()
    return pd.DataFrame(rows)


def probe(features: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Train a logistic regression on features, and answer for the test images.

    Args:
        features: `(N, D)`, row for row as `dataset.table`.
        dataset: Its training and validation splits are trained on.

    Returns:
        `p_fake` of the test split, in row order.
    """
    labels, test = dataset.table["label"].to_numpy(), dataset.rows("test").to_numpy()
    head = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=_REGULARISATION, class_weight="balanced", max_iter=1000),
    )
    return head.fit(features[~test], labels[~test]).predict_proba(features[test])[:, 1]


def summary(tested: pd.DataFrame) -> pd.DataFrame:
    """Average over folds, with 95 % intervals.

    Folds share most of their training images, so their scores are not independent, and the usual
    standard error is far too small. It is corrected by the share of tested to trained images.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error"; for repeated folds
    Bouckaert & Frank 2004.

    Args:
        tested: As `cross_validate` returns it.

    Returns:
        One row a way of dealing, index `dealt`; each metric, and its interval as `<metric>_low` and
        `<metric>_high`, within 0–1.
    """
    rows = {}
    for name, part in tested.groupby("dealt", sort=False):
        runs, scores = len(part), part[list(METRICS)]
        variance = (1 / runs + 1 / (part["count"].iloc[0] - 1)) * scores.var(ddof=1)
        half = stats.t.ppf((1 + LEVEL) / 2, runs - 1) * np.sqrt(variance)
        mean = scores.mean()
        low, high = (mean - half).clip(0, 1), (mean + half).clip(0, 1)
        ends = low.add_suffix("_low"), high.add_suffix("_high")
        rows[name] = pd.concat([mean, *ends]).to_dict()
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("dealt")


def _dealt(labels: pd.Series, groups: pd.Series, count: int, seed: int):
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    return dealer.split(np.zeros(len(labels)), labels, groups)
