"""Models side by side on the test split: scores, robustness, cost."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from cifake_lib import evaluation, provenance, results, robustness, runs
from cifake_lib.corruptions import CONDITIONS
from cifake_lib.data import CLASS_NAMES, Dataset
from cifake_lib.pixels import Pictures, take_rows
from cifake_lib.scoring import fit_ensemble, load_pictures, predict, scorer
from cifake_lib.selective import ConformalSets

SCORED = (
    *("stage", "run_id", "profile", "name", "recipe", "seed"),
    *("training_images", "epochs", "corruption_share"),
    *("f1", "accuracy", "roc_auc", "ece", "robust_mean", "robust_worst"),
    "measured_before",
)


def compare(
    found: Mapping[str, runs.Run], ensemble: Mapping, predictions: pd.DataFrame
) -> dict[str, dict]:
    """Score models on their test predictions, and add what they cost.

    Args:
        found: Stage → run.
        ensemble: As `scoring.fit_ensemble` returns it.
        predictions: As `scoring.predict_test_split` returns them.

    Returns:
        Stage, and `ensemble` → the scores of `evaluation.evaluate_models`, with `operating_points`
        (see `evaluation.at_operating_points`), `parameters`, `weights_bytes`, `training_seconds`,
        `training_energy_wh` (see `provenance`; left out where it is not known), and
        `images_per_second_batch_1` and `_256`; a model's also with `run_id` and `display_name`.
        The ensemble costs what its members cost together.
    """
    y_true = predictions["label"].to_numpy()
    temperatures = {stage: run.manifest["temperature"] for stage, run in found.items()}
    metrics = evaluation.evaluate_models(
        y_true,
        {key: predictions[f"{key}_logit"].to_numpy() for key in (*found, "ensemble")},
        {**temperatures, "ensemble": ensemble["temperature"]},
    )
    thresholds = {stage: run.manifest["thresholds"] for stage, run in found.items()}
    for key, points in {**thresholds, "ensemble": ensemble["thresholds"]}.items():
        metrics[key]["operating_points"] = evaluation.at_operating_points(
            y_true, predictions[f"{key}_p_fake"].to_numpy(), points
        )
    added = ("parameters", "weights_bytes", "training_seconds", "training_energy_wh")
    for stage, run in found.items():
        model, facts = runs.load_model(run), run.manifest["model"]
        metrics[stage] |= {
            "run_id": run.run_id,
            "display_name": facts["display_name"],
            "parameters": facts["parameters"],
            "weights_bytes": facts["weights_bytes"],
            "training_seconds": run.manifest["training"]["seconds"],
        }
        if (energy := provenance.training_energy_wh(run.manifest)) is not None:
            metrics[stage]["training_energy_wh"] = energy
        for batch_size in (1, 256):
            metrics[stage][f"images_per_second_batch_{batch_size}"] = results.images_per_second(
                model, image_size=facts["input_size"], batch_size=batch_size
            )
    together = {
        name: sum(metrics[stage][name] for stage in found)
        for name in added
        if all(name in metrics[stage] for stage in found)
    }
    for batch_size in (1, 256):
        name = f"images_per_second_batch_{batch_size}"
        together[name] = 1 / math.fsum(1 / metrics[stage][name] for stage in found)
    metrics["ensemble"] |= together
    return metrics


def measure_robustness(
    found: Mapping[str, runs.Run],
    ensemble: Mapping,
    images: np.ndarray | Pictures,
    y_true: np.ndarray,
    *,
    conditions: Sequence[tuple[str, int]] = CONDITIONS,
    sets: Mapping[str, ConformalSets] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure models and their ensemble on corrupted images; see `robustness.robustness_table`."""
    return robustness.robustness_table(
        scorer(found, ensemble), images, y_true, conditions=conditions, sets=sets, seed=seed
    )


def find_others(names: Sequence[str], dataset: Dataset) -> tuple[list[runs.Run], pd.DataFrame]:
    """Find runs to score. Weights of seeds and trials are not kept for ever, but their scores are.

    Args:
        names: "stage/run id" of each.
        dataset: Its test split is what they are to be scored on.

    Returns:
        The runs that are here; and of the others what the released evaluation measured on the very
        same split, as rows of `score_runs`, with its day in `measured_before`.

    Raises:
        runs.RunNotFound: One is neither here nor measured there.
    """
    try:
        released = runs.find_run("evaluation", released=True)
    except runs.RunNotFound:
        before = pd.DataFrame(columns=SCORED)
    else:
        same = released.manifest["data"]["split_hash"] == dataset.split_hash
        before = released.read_csv("runs.csv").reindex(columns=SCORED).astype({"run_id": str})
        day = released.manifest["finished_utc"][:10]
        before["measured_before"] = before["measured_before"].replace("", np.nan).fillna(day)
        before = before if same else before[:0]
    found, kept = [], []
    for name in names:
        stage, run_id = name.split("/")
        try:
            found.append(runs.find_run(stage, run_id))
        except runs.RunNotFound:
            row = before[(before["stage"] == stage) & (before["run_id"] == run_id)]
            if row.empty:
                raise
            kept.append(row)
    return found, pd.concat([before[:0], *kept], ignore_index=True)


def score_runs(
    found: Sequence[runs.Run],
    dataset: Dataset,
    corrupted_rows: np.ndarray,
    *,
    seed: int = 0,
    load: Callable[[Mapping[str, runs.Run], Dataset], Pictures] = load_pictures,
) -> pd.DataFrame:
    """Score runs of the same models that differ in their seed, their training or their size.

    Args:
        found: Runs of any model stages.
        dataset: Its test split is used.
        corrupted_rows: Row numbers of the images to corrupt.
        seed: Of the corruptions.
        load: Returns the images of the data set as the models look at them.

    Returns:
        One row per run: `stage`, `run_id`, `profile`, `name` of the network as people read it,
        `recipe` (see `runs.Run`), `seed`, `training_images`, `epochs`, `corruption_share`; `f1`,
        `accuracy`, `roc_auc` and `ece` on the clean test split; `robust_mean` and `robust_worst`,
        the mean and the lowest accuracy over `corruptions.CONDITIONS`; and `measured_before`,
        empty, see `find_others`.
    """
    rows = np.flatnonzero(dataset.rows("test"))
    labels = dataset.table["label"].to_numpy()
    scored = []
    for run in found:
        alone = {run.stage: run}
        ensemble, pictures = fit_ensemble(alone), load(alone, dataset)
        p_fake = predict(alone, ensemble)(pictures[rows])[f"{run.stage}_p_fake"].to_numpy()
        table = measure_robustness(
            alone, ensemble, pictures[corrupted_rows], labels[corrupted_rows], seed=seed
        )
        scored.append(_scored(run, evaluation.scores(labels[rows], p_fake), table))
    return pd.DataFrame(scored, columns=SCORED)


def scored_already(
    found: Mapping[str, runs.Run], metrics: Mapping[str, Mapping], conditions: pd.DataFrame
) -> pd.DataFrame:
    """Return the rows of `score_runs` for the runs that were compared, without scoring them again.

    Args:
        found: Stage → run.
        metrics: As `compare` returns them.
        conditions: As `measure_robustness` returns them.
    """
    rows = [
        _scored(run, metrics[stage], conditions[conditions["model"] == stage])
        for stage, run in found.items()
    ]
    return pd.DataFrame(rows, columns=SCORED)


def _scored(run: runs.Run, measured: Mapping, conditions: pd.DataFrame) -> dict:
    summary = robustness.robustness_summary(conditions).loc[run.stage]
    return {
        "stage": run.stage,
        "run_id": run.run_id,
        "profile": run.manifest["profile"],
        "name": run.manifest["model"]["display_name"],
        "recipe": run.recipe,
        "seed": run.manifest["seed"],
        "training_images": sum(run.manifest["data"]["counts"]["train"].values()),
        "epochs": run.manifest["training"]["epochs"],
        "corruption_share": run.manifest["parameters"].get("corruption_share", 0.0),
        **{name: measured[name] for name in ("f1", "accuracy", "roc_auc", "ece")},
        "robust_mean": summary["mean"],
        "robust_worst": summary["worst"],
        "measured_before": "",
    }


def average_over_seeds(scored: pd.DataFrame) -> pd.DataFrame:
    """Average runs that differ in their seed alone.

    Args:
        scored: As `score_runs` returns it.

    Returns:
        One row per `stage` and `recipe`: its `corruption_share`, the number of `seeds`, and mean
        and standard deviation (over seeds, with n - 1) of each score as `<score>_mean` and
        `<score>_deviation`. A run that repeats a seed counts once.
    """
    names = ["f1", "accuracy", "roc_auc", "ece", "robust_mean", "robust_worst"]
    columns = [f"{name}_{kind}" for name in names for kind in ("mean", "deviation")]
    same, rows = ["stage", "recipe", "corruption_share"], []
    for known, part in scored.drop_duplicates([*same, "seed"]).groupby(same, sort=False):
        row = dict(zip(same, known, strict=True)) | {"seeds": len(part)}
        for name in names:
            row |= {f"{name}_mean": part[name].mean(), f"{name}_deviation": part[name].std()}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*same, "seeds", *columns])


def finish_comparison(
    run: runs.ActiveRun,
    found: Mapping[str, runs.Run],
    ensemble: Mapping,
    dataset: Dataset,
    images: np.ndarray,
    predictions: pd.DataFrame,
    metrics: Mapping[str, dict],
    *,
    examples_per_class: int = 48,
) -> runs.Run:
    """Store a comparison as a complete run: scores, predictions, curves and example images.

    Args:
        run: The run to finish.
        found: Stage → run of the models compared.
        ensemble: As `scoring.fit_ensemble` returns it.
        dataset: What was evaluated on.
        images: Of the whole data set, row for row.
        predictions: As `scoring.predict_test_split` returns them, perhaps without some of the rows.
        metrics: As `compare` returns them.
        examples_per_class: Test images of each class that the dashboard offers.

    Returns:
        The complete run.
    """
    y_true = predictions["label"].to_numpy()
    run.write_csv("predictions.csv", predictions.round(results.DECIMALS))
    run.write_csv("comparison.csv", evaluation.comparison_table(metrics).reset_index())
    run.write_json("metrics.json", {"split": "test", "count": len(y_true), "models": metrics})
    curves = {
        key: evaluation.curve_points(y_true, predictions[f"{key}_p_fake"].to_numpy())
        for key in metrics
    }
    run.write_json("curves.json", curves)
    rows = np.flatnonzero(dataset.rows("test"))
    # The first of each class by content hash: a choice that no score has influenced.
    order = predictions.sort_values("content_hash").groupby("label").head(examples_per_class).index
    np.savez_compressed(
        run.folder / "examples.npz", images=take_rows(images, rows[order]), labels=y_true[order]
    )
    return run.finish(
        data=dataset.manifest(),
        class_names=list(CLASS_NAMES),
        ensemble=dict(ensemble),
        metrics={key: {"accuracy": m["accuracy"], "f1": m["f1"]} for key, m in metrics.items()},
        upstream={stage: model_run.run_id for stage, model_run in found.items()},
    )
