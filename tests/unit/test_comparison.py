"""Models side by side: the ensemble, their test predictions, costs, robustness, other runs."""

import dataclasses
import shutil
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cifake_lib import (
    calibration,
    comparison,
    corruptions,
    data,
    evaluation,
    models,
    paths,
    results,
    runs,
    scoring,
)
from cifake_lib.framework import keras

ARGUMENTS = {"image_size": 32, "augmentation": [], "filters": [4, 4]}
HISTORY = pd.DataFrame({"seconds": [2.0], "images_per_second": [8.0], "peak_memory_mb": [9.0]})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def dataset():
    table = pd.DataFrame(
        {
            "path": [f"{row:02d}.png" for row in range(80)],
            "label": [0, 1] * 40,
            "object_class": "",
            "content_hash": [f"{row:064x}" for row in range(80)],
            "official_split": "",
            "source": "",
            "split": ["train"] * 16 + ["validation"] * 40 + ["test"] * 24,
            "crosses_split": [False] * 79 + [True],
        }
    )
    skipped = pd.DataFrame(columns=["path", "reason"])
    return data.Dataset("made", runs.paths.project_root(), table, skipped, "0" * 64)


def train(stage, seed, dataset, images, **parameters):
    keras.utils.set_random_seed(seed)
    arguments = ARGUMENTS | {"image_size": images.shape[1]}
    model = models.build_model("baseline_cnn", **arguments)
    run = runs.start_run(stage, run_id=f"seed-{seed}", parameters=parameters, seed=seed)
    # The stage names the builder; both stages are small here.
    run.stage = "baseline_cnn"
    finished = results.finish_model_run(
        run, model, dataset, images, HISTORY, arguments=arguments, view_average=True
    )
    return runs.Run(stage, finished.folder, finished.manifest)


@pytest.fixture(scope="module")
def found(tmp_path_factory, dataset, images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAKE_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield {
            "baseline_cnn": train("baseline_cnn", 1, dataset, images, corruption_share=0.5),
            "tuned_cnn": train("tuned_cnn", 2, dataset, images),
        }


@pytest.fixture(scope="module")
def ensemble(found):
    return scoring.fit_ensemble(found)


def test_the_ensemble_is_fitted_on_validation_predictions(found, ensemble):
    tables = [run.read_csv("validation_predictions.csv") for run in found.values()]
    y_true = tables[0]["label"].to_numpy()
    scaled = [
        table["logit"] / run.manifest["temperature"]
        for table, run in zip(tables, found.values(), strict=True)
    ]
    weights = calibration.fit_weights(y_true, scaled)
    assert ensemble["weights"] == dict(zip(found, weights.tolist(), strict=True))
    mean = np.average(scaled, axis=0, weights=weights)
    assert ensemble["temperature"] == pytest.approx(calibration.fit_temperature(y_true, mean))
    assert ensemble["members"] == {"baseline_cnn": "seed-1", "tuned_cnn": "seed-2"}
    assert ensemble["metrics"]["count"] == 40
    assert set(ensemble["thresholds"]) == {"balanced", "best_f1", "fpr_5", "fpr_1"}


def test_validation_scores_are_those_the_runs_stored(found, ensemble):
    scores = scoring.validation_scores(found, ensemble)
    for stage, run in found.items():
        stored = run.read_csv("validation_predictions.csv")
        assert scores["path"].tolist() == stored["path"].tolist()
        np.testing.assert_allclose(scores[f"{stage}_p_fake"], stored["p_fake"], atol=2e-6)
    points = evaluation.operating_points(scores["label"], scores["ensemble_p_fake"])
    assert points == pytest.approx(ensemble["thresholds"])


def test_models_with_other_validation_images_make_no_ensemble(found, monkeypatch):
    read = runs.Run.read_csv

    def fewer(run, name):
        table = read(run, name)
        return table.iloc[:30] if run.stage == "tuned_cnn" else table

    monkeypatch.setattr(runs.Run, "read_csv", fewer)
    with pytest.raises(ValueError, match="same validation images.*40.*30"):
        scoring.fit_ensemble(found)


def test_the_comparison_scores_the_test_images_and_adds_costs(found, ensemble, dataset, images):
    predictions = scoring.predict_test_split(found, ensemble, dataset, images)
    assert predictions["path"].tolist() == [f"{row:02d}.png" for row in range(56, 80)]
    assert predictions["crosses_split"].tolist() == [False] * 23 + [True]
    scaled = []
    for stage, run in found.items():
        logits = runs.load_model(run).predict(images[56:], verbose=0).ravel()
        scaled.append(logits / run.manifest["temperature"])
        np.testing.assert_allclose(predictions[f"{stage}_p_fake"], expit(scaled[-1]), atol=1e-5)
    weights = scoring.weights_of(found, ensemble)
    together = expit(np.average(scaled, axis=0, weights=weights) / ensemble["temperature"])
    np.testing.assert_allclose(predictions["ensemble_p_fake"], together, atol=1e-5)

    metrics = comparison.compare(found, ensemble, predictions)
    right = (together >= 0.5) == (predictions["label"] == 1)
    assert metrics["ensemble"]["accuracy"] == pytest.approx(right.mean())
    assert metrics["ensemble"]["training_seconds"] == 4.0
    assert metrics["baseline_cnn"]["images_per_second_batch_256"] > 1
    strict = metrics["ensemble"]["operating_points"]["fpr_1"]
    assert strict["threshold"] == ensemble["thresholds"]["fpr_1"]
    caught = together[predictions["label"] == 1] >= strict["threshold"]
    assert strict["true_positive_rate"] == pytest.approx(caught.mean())

    run = comparison.finish_comparison(
        *(runs.start_run("evaluation"), found, ensemble, dataset, images),
        *(predictions[~predictions["crosses_split"]], metrics),
        examples_per_class=3,
    )
    assert run.manifest["ensemble"] == ensemble
    examples = np.load(run.checked("examples.npz"))
    assert sorted(examples["labels"]) == [0, 0, 0, 1, 1, 1]
    for image, label in zip(examples["images"], examples["labels"], strict=True):
        (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
        assert 56 <= row < 79 and dataset.table["label"][row] == label


def test_each_model_judges_pictures_of_its_own_size(found, dataset, images, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path))
    larger = images.repeat(2, axis=1).repeat(2, axis=2)[:, :48, :48]
    both = {
        "baseline_cnn": found["baseline_cnn"],
        "tuned_cnn": train("tuned_cnn", 5, dataset, larger),
    }
    decoded = {32: images, 48: larger}
    monkeypatch.setattr(
        scoring.batches, "load_images", lambda dataset, *, image_size, crop: decoded[image_size]
    )
    pictures = scoring.load_pictures(both, dataset)
    assert pictures.largest is larger
    ensemble = scoring.fit_ensemble(both)
    predictions = scoring.predict_test_split(both, ensemble, dataset, pictures)
    for stage, seen in (("baseline_cnn", images), ("tuned_cnn", larger)):
        logits = runs.load_model(both[stage]).predict(seen[56:], verbose=0).ravel()
        np.testing.assert_allclose(predictions[f"{stage}_logit"], logits, atol=1e-4)
    y_true, rows = dataset.table["label"].to_numpy(), np.arange(56, 80)
    conditions = [("jpeg", 3)]
    options = {"conditions": conditions}
    table = comparison.measure_robustness(both, ensemble, pictures[rows], y_true[rows], **options)
    saved = corruptions.corrupt_batch(larger[rows], "jpeg", severity=3)
    logits = runs.load_model(both["tuned_cnn"]).predict(saved, verbose=0).ravel()
    row = table[(table["model"] == "tuned_cnn") & (table["corruption"] == "jpeg")]
    assert row["accuracy"].item() == pytest.approx(((logits >= 0) == y_true[rows]).mean())


def test_robustness_covers_every_model_the_ensemble_and_every_condition(
    found, ensemble, dataset, images
):
    y_true = dataset.table["label"].to_numpy()
    table = comparison.measure_robustness(found, ensemble, images[56:], y_true[56:])
    counts = table["model"].value_counts()
    assert counts.to_dict() == dict.fromkeys([*found, "ensemble"], 14)
    measured = table[["corruption", "severity"]].drop_duplicates().itertuples(index=False)
    assert [tuple(row) for row in measured] == [("clean", 0), *corruptions.CONDITIONS]


def test_other_runs_are_scored_and_averaged_over_seeds(found, dataset, images):
    again = train("baseline_cnn", 3, dataset, images, corruption_share=0.5)
    clean = train("baseline_cnn", 4, dataset, images, corruption_share=0.0)
    rows = np.arange(56, 80)
    others = [found["baseline_cnn"], again, clean]
    scored = comparison.score_runs(others, dataset, rows, load=lambda *_: images)
    assert list(scored) == list(comparison.SCORED)
    assert scored["run_id"].tolist() == ["seed-1", "seed-3", "seed-4"]
    predicted = expit(runs.load_model(again).predict(images[56:], verbose=0).ravel()) >= 0.5
    right = predicted == (dataset.table["label"].to_numpy()[56:] == 1)
    assert scored["accuracy"][1] == pytest.approx(right.mean())
    averages = comparison.average_over_seeds(scored)
    assert averages["recipe"].tolist() == [again.recipe, clean.recipe]
    assert averages[["corruption_share", "seeds"]].to_numpy().tolist() == [[0.5, 2], [0.0, 1]]
    assert averages["f1_mean"][0] == pytest.approx(scored["f1"][:2].mean())
    assert averages["f1_deviation"][0] == pytest.approx(scored["f1"][:2].std(ddof=1))
    assert np.isnan(averages["f1_deviation"][1])
    # The same seed again says nothing about another one.
    repeated = comparison.average_over_seeds(pd.concat([scored, scored]))
    pd.testing.assert_frame_equal(repeated, averages)


def test_runs_that_were_compared_need_no_second_scoring(found, ensemble, dataset, images):
    predictions = scoring.predict_test_split(found, ensemble, dataset, images)
    metrics = comparison.compare(found, ensemble, predictions)
    rows = np.arange(56, 80)
    labels = dataset.table["label"].to_numpy()
    conditions = comparison.measure_robustness(found, ensemble, images[rows], labels[rows])
    known = comparison.scored_already(found, metrics, conditions)
    others = list(found.values())
    again = comparison.score_runs(others, dataset, rows, load=lambda *_: images)
    pd.testing.assert_frame_equal(known, again, rtol=1e-6)


def test_of_a_run_that_is_gone_the_released_score_is_kept(found, dataset, images, monkeypatch):
    rows = np.arange(56, 80)
    scored = comparison.score_runs(
        [found["baseline_cnn"]], dataset, rows, load=lambda *_: images
    ).assign(run_id="gone")
    released = paths.runs_dir().parent / "released"
    monkeypatch.setattr(paths, "released_dir", lambda: released)
    evaluation = runs.start_run("evaluation", run_id="first", parameters={})
    evaluation.write_csv("runs.csv", scored.drop(columns="measured_before"))
    shutil.copytree(evaluation.finish(data=dataset.manifest()).folder, released / "evaluation")
    here, before = comparison.find_others(["baseline_cnn/seed-1", "baseline_cnn/gone"], dataset)
    assert [run.run_id for run in here] == ["seed-1"]
    assert before["run_id"].tolist() == ["gone"]
    assert before["f1"].item() == pytest.approx(scored["f1"].item())
    assert before["measured_before"].item() == datetime.now(UTC).date().isoformat()
    other = dataclasses.replace(dataset, split_hash="another")
    with pytest.raises(runs.RunNotFound, match="gone"):
        comparison.find_others(["baseline_cnn/gone"], other)


def test_without_other_runs_the_tables_are_empty_but_have_their_columns(dataset):
    scored = comparison.score_runs([], dataset, np.arange(56, 80))
    assert list(scored) == list(comparison.SCORED) and scored.empty
    assert comparison.average_over_seeds(scored).empty
