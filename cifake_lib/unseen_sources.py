"""What verdicts on pictures of left-out sources are worth: ranking, calibration, intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from cifake_lib import calibration, evaluation, selective
from cifake_lib.intervals import share_interval

CERTAIN = 0.9  # share of right answers among those that are not UNCERTAIN
FEWEST = 50  # photographs of a source from which on its own false alarms are looked at


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
        no source of at least `FEWEST` photographs more than the promised share is called FAKE, and
        `balanced`, at which verdicts are given unless somebody chooses another, as high as that of
        5 %: a photograph called FAKE is the worst error; and `certain_from`, see
        `selective.certain_from`.
    """
    y_true, logits = left_out["label"].to_numpy(), left_out["logit"].to_numpy()
    temperature = calibration.fit_temperature(y_true, logits)
    p_fake = calibration.probability(logits, temperature)
    thresholds = evaluation.operating_points(y_true, p_fake)
    real = left_out.assign(p_fake=p_fake)[y_true == 0]
    large = real[real.groupby("source")["label"].transform("size") >= FEWEST]
    for percent in (5, 1):
        # The next value above: what lies at the quantile itself is not called FAKE.
        own = large.groupby("source")["p_fake"].quantile(1 - percent / 100, "higher")
        highest = float(np.nextafter(own.max(), 2)) if len(own) else 0.0
        thresholds[f"fpr_{percent}"] = max(thresholds[f"fpr_{percent}"], highest)
    thresholds["balanced"] = max(thresholds["balanced"], thresholds["fpr_5"])
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
        The same rows with `p_fake`; `certain`, whether there is a verdict at `balanced`, as
        `decisions.decide` gives it; and `called_<point>`, whether FAKE at that operating point.
    """
    judged = []
    for fold, part in left_out.groupby("fold"):
        fitted = calibrate(left_out[left_out["fold"] != fold])
        p_fake = calibration.probability(part["logit"].to_numpy(), fitted["temperature"])
        called = {f"called_{name}": p_fake >= at for name, at in fitted["thresholds"].items()}
        certain = np.maximum(p_fake, 1 - p_fake) >= fitted["certain_from"]
        certain &= (p_fake >= 0.5) == called["called_balanced"]
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
