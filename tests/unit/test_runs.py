"""A run is complete or does not exist, and what it says of its files is checked."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifake_lib import paths, runs
from cifake_lib.releases import release
from cifake_lib.runs import RunDamaged, RunNotFound, find_run, start_run


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))


def complete(stage="baseline_cnn", run_id="", *, started=None, **facts):
    run = start_run(stage, run_id=run_id, parameters={"epochs": 3})
    if started:
        run.started["started_utc"] = started
    run.write_json("metrics.json", {"accuracy": 0.5})
    run.write_csv("history.csv", pd.DataFrame({"epoch": [1, 2], "phase": ["", "head"]}))
    return run.finish(**facts)


def test_start_finish_find():
    finished = complete(run_id="first", metrics={"accuracy": 0.5}, temperature=1.25)
    found = find_run("baseline_cnn")
    assert (found.stage, found.run_id, found.folder) == ("baseline_cnn", "first", finished.folder)
    assert found.manifest == json.loads(json.dumps(finished.manifest))
    assert found.folder == paths.runs_dir() / "baseline_cnn" / "first"
    assert found.read_json("metrics.json") == {"accuracy": 0.5}
    assert found.read_csv("history.csv")["phase"].tolist() == ["", "head"]
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "history.csv",
        "manifest.json",
        "metrics.json",
    ]


def test_manifest_says_what_the_run_was():
    run = start_run(
        "tuned_cnn", run_id="x", profile="smoke", parameters={"epochs": 3, "seed": 7}, seed=7
    )
    run.notes.append("trained on little")
    run.write_json("metrics.json", {})
    manifest = run.finish(temperature=1.5, thresholds={"balanced": 0.5}).manifest
    assert manifest["schema"] == 1
    assert (manifest["stage"], manifest["run_id"], manifest["profile"]) == (
        "tuned_cnn",
        "x",
        "smoke",
    )
    assert manifest["parameters"] == {"epochs": 3, "seed": 7}
    assert manifest["seed"] == 7
    assert manifest["class_names"] == ["REAL", "FAKE"]
    assert manifest["positive_class"] == "FAKE"
    assert manifest["temperature"] == 1.5
    assert manifest["thresholds"] == {"balanced": 0.5}
    assert manifest["notes"] == ["trained on little"]
    assert manifest["started_utc"] <= manifest["finished_utc"]
    assert manifest["started_utc"].endswith("Z")
    assert manifest["duration_seconds"] >= 0
    assert {"python", "numpy"} <= set(manifest["versions"])
    assert isinstance(manifest["git_commit"], str)
    assert set(manifest["files"]) == {"metrics.json"}
    assert manifest["files"]["metrics.json"] == runs.file_hash(run.folder / "metrics.json")


def test_new_run_ids_differ():
    first, second = start_run("data"), start_run("data")
    assert first.run_id != second.run_id
    assert first.folder != second.folder
    assert first.run_id[:8].isdigit()


def measuring(**upstream):
    return runs.Run("evaluation", Path(), {"run_id": "e", "upstream": upstream})


def model(stage, run_id):
    return runs.Run(stage, Path(), {"run_id": run_id})


def test_a_run_measured_just_its_models():
    run, tuned = measuring(tuned_cnn="a", resnet50="b"), model("tuned_cnn", "a")
    assert run.measured(tuned, model("resnet50", "b"))
    assert run.measured(model("resnet50", "b"), tuned)
    assert not run.measured(tuned)
    assert not run.measured(tuned, model("resnet50", "a"))
    assert not run.measured(tuned, model("resnet50", "b"), model("baseline_cnn", "c"))


def test_a_model_can_be_one_of_those_that_a_run_measured():
    run = measuring(tuned_cnn="a", resnet50="b")
    assert run.measured(model("tuned_cnn", "a"), among_others=True)
    # The run ids of two stages may well be the same.
    assert not run.measured(model("resnet50", "a"), among_others=True)
    assert not run.measured(model("baseline_cnn", "a"), among_others=True)


@pytest.mark.parametrize(
    ("parameters", "unseen"),
    [
        ({"corruption_share": 0.3, "unseen_corruption": "blur"}, "blur"),
        ({"corruption_share": 0.3, "unseen_corruption": ""}, ""),
        # Trained without any corruption, it left none out on purpose.
        ({"corruption_share": 0, "unseen_corruption": "blur"}, ""),
        ({}, ""),
    ],
)
def test_what_training_left_out_on_purpose(parameters, unseen):
    assert runs.Run("resnet50", Path(), {"parameters": parameters}).unseen_corruption == unseen


def test_a_run_that_does_not_say_so_measured_nothing():
    silent = runs.Run("evaluation", Path(), {"run_id": "e"})
    assert not silent.measured(model("tuned_cnn", "a"))
    assert not silent.measured(model("tuned_cnn", "a"), among_others=True)


def test_files_in_folders_are_hashed_notebook_and_checkpoints_are_not():
    run = start_run("data", run_id="x")
    (run.checkpoints / "epoch.weights.h5").write_bytes(b"heavy")
    (run.folder / "figures").mkdir()
    (run.folder / "figures" / "a.png").write_bytes(b"figure")
    (run.folder / "notebook.ipynb").write_text("still running")
    finished = run.finish()
    assert set(finished.manifest["files"]) == {"figures/a.png"}
    assert not (finished.folder / "checkpoints").exists()


def test_a_run_without_manifest_does_not_exist(monkeypatch):
    run = start_run("data", run_id="x")
    run.write_json("metrics.json", {})
    with pytest.raises(RunNotFound):
        find_run("data")
    # Killed while the manifest is being written.
    (run.checkpoints / "weights").touch()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(run.folder), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish()
    with pytest.raises(RunNotFound):
        find_run("data")
    assert (run.folder / "checkpoints" / "weights").is_file()
    assert start_run("data", run_id="x").finish().run_id == "x"


def test_json_is_replaced_whole(tmp_path):
    target = tmp_path / "a.json"
    runs.write_json(target, {"a": 1})
    for value in (math.nan, math.inf, object()):
        with pytest.raises((ValueError, TypeError)):
            runs.write_json(target, {"a": value})
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["a.json"]


def test_latest_run_is_the_one_started_last():
    complete(run_id="b", started="2025-01-02T00:00:00Z")
    complete(run_id="a", started="2025-01-03T00:00:00Z")
    complete(run_id="c", started="2025-01-01T00:00:00Z")
    start_run("baseline_cnn", run_id="unfinished")
    assert find_run("baseline_cnn").run_id == "a"
    assert find_run("baseline_cnn", "c").run_id == "c"
    assert [run.run_id for run in runs.list_runs("baseline_cnn")] == ["c", "b", "a"]


def test_missing_run_says_how_to_make_one():
    with pytest.raises(RunNotFound, match=r"'resnet50'.*cifake_lib\.pipeline --only resnet50"):
        find_run("resnet50")
    complete("resnet50", "there")
    with pytest.raises(RunNotFound, match="run 'absent' of the stage 'resnet50'"):
        find_run("resnet50", "absent")


def test_interrupted_run_continues_with_its_first_start(monkeypatch):
    first = start_run("data", run_id="x", parameters={"epochs": 3})
    (first.checkpoints / "epoch1").touch()
    monkeypatch.setattr(runs, "_now", lambda: "2999-01-01T00:00:00Z")
    again = start_run("data", run_id="x", parameters={"epochs": 3})
    assert again.started == first.started
    assert (again.checkpoints / "epoch1").is_file()
    manifest = again.finish().manifest
    assert manifest["started_utc"] == first.started["started_utc"]
    assert manifest["finished_utc"] == "2999-01-01T00:00:00Z"


def test_interrupted_run_refuses_other_parameters():
    start_run("data", run_id="x", parameters={"epochs": 3})
    with pytest.raises(ValueError, match=r"other parameters.*'epochs': 3.*'epochs': 4"):
        start_run("data", run_id="x", parameters={"epochs": 4})


def test_complete_run_id_and_other_wrong_names_are_refused():
    complete(run_id="x")
    with pytest.raises(ValueError, match="baseline_cnn.x is complete; choose another run_id"):
        start_run("baseline_cnn", run_id="x", parameters={"epochs": 3})
    with pytest.raises(ValueError, match="baseline_cnn.*received 'vgg'"):
        start_run("vgg")
    for run_id in ("..", "a/b", "../x", "a b", "-", "a\\b"):
        with pytest.raises(ValueError, match="run id of letters"):
            start_run("data", run_id=run_id)
    assert not list(paths.runs_dir().glob("data/*"))


def test_only_literals_with_small_names_are_kept_as_parameters():
    variables = {
        "epochs": 3,
        "data_dir": "sample",
        "share": 0.5,
        "shuffle": True,
        "augmentation": ["horizontal_flip"],
        "space": {"width": 16},
        "nothing": None,
        "_private": 1,
        "In": ["code"],
        "np": np,
        "dataset": pd.DataFrame(),
        "size": np.int64(3),
        "function": len,
    }
    kept = start_run("data", run_id="x", parameters=variables).started["parameters"]
    assert kept == {
        "epochs": 3,
        "data_dir": "sample",
        "share": 0.5,
        "shuffle": True,
        "augmentation": ["horizontal_flip"],
        "space": {"width": 16},
        "nothing": None,
    }


def test_changed_missing_and_unlisted_files_are_damage():
    run = complete(run_id="x")
    (run.folder / "metrics.json").write_text('{"accuracy": 0.99}')
    with pytest.raises(RunDamaged, match=r"metrics\.json is damaged or was changed.*SHA-256"):
        run.read_json("metrics.json")
    (run.folder / "history.csv").unlink()
    with pytest.raises(RunDamaged, match=r"history\.csv is missing; run the baseline_cnn stage"):
        run.read_csv("history.csv")
    (run.folder / "predictions.csv").write_text("slipped,in\n")
    with pytest.raises(RunDamaged, match="predictions"):
        run.read_csv("predictions.csv")


def test_tables_keep_missing_numbers_and_empty_text():
    run = start_run("data", run_id="x")
    run.write_csv("t.csv", pd.DataFrame({"text": ["", "NA"], "number": ["nan", "1.5"]}))
    table = run.finish().read_csv("t.csv")
    assert table["text"].tolist() == ["", "NA"]
    assert math.isnan(table["number"][0])
    assert table["number"][1] == 1.5


def test_a_compressed_table_reads_back_and_has_the_same_hash_each_time():
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "split": ["train", "test"]})
    hashes = []
    for run_id in ("one", "two"):
        run = start_run("data", run_id=run_id)
        run.write_csv("split.csv.gz", table)
        finished = run.finish()
        pd.testing.assert_frame_equal(finished.read_csv("split.csv.gz"), table)
        hashes.append(finished.manifest["files"]["split.csv.gz"])
    assert hashes[0] == hashes[1]


# Released runs


def test_released_run_stands_in_until_there_is_an_own_one(monkeypatch, tmp_path):
    release(complete(run_id="shipped"))
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "fresh"))
    assert find_run("baseline_cnn").run_id == "shipped"
    assert find_run("baseline_cnn", "shipped").run_id == "shipped"
    with pytest.raises(RunNotFound):
        find_run("baseline_cnn", "other")
    complete(run_id="own")
    assert find_run("baseline_cnn").run_id == "own"
    assert find_run("baseline_cnn", released=True).run_id == "shipped"


# Models of runs


@pytest.fixture
def trained():
    """A complete run of a model whose arguments are not the defaults, and its predictions."""
    from cifake_lib import models
    from cifake_lib.framework import keras

    arguments = {"blocks": 2, "width": 16, "pooling": "flatten", "augmentation": ["shift"]}
    model = models.build_model("tuned_cnn", **arguments)
    model.compile(keras.optimizers.SGD(0.01), keras.losses.BinaryCrossentropy(from_logits=True))
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    model.train_on_batch(images, np.arange(16)[:, None] % 2)  # Moves the batch-norm statistics too.
    run = start_run("tuned_cnn", run_id="x")
    model.save_weights(run.folder / runs.WEIGHTS)
    finished = run.finish(model={"builder": "tuned_cnn", "arguments": arguments})
    return finished, images, model.predict_on_batch(images)


def test_loaded_model_predicts_the_same(trained):
    run, images, expected = trained
    loaded = runs.load_model(run)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), expected)
    # Also from the released copy, found anew, and under another policy than it was trained with.
    from cifake_lib.framework import keras

    release(run)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        loaded = runs.load_model(find_run("tuned_cnn", released=True))
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_global_policy(policy)
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    np.testing.assert_array_equal(loaded.predict_on_batch(images), expected)


def test_changed_or_missing_weights_are_not_loaded(trained):
    run = trained[0]
    path = run.folder / runs.WEIGHTS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunDamaged, match=r"model\.weights\.h5 is damaged"):
        runs.load_model(run)
    path.unlink()
    with pytest.raises(RunDamaged, match=r"model\.weights\.h5 is missing"):
        runs.load_model(run)


def test_runs_that_differ_in_their_seed_alone_share_a_recipe():
    def recipe(**parameters):
        return runs.Run("baseline_cnn", Path(), {"parameters": {"epochs": 3, **parameters}}).recipe

    assert recipe(seed=1, run_id="a") == recipe(seed=2, run_id="b", profile="full")
    assert recipe(seed=1) != recipe(seed=1, corruption_share=0.5)


def test_a_parameter_that_came_later_makes_no_other_recipe_of_what_was_done_before(monkeypatch):
    monkeypatch.delenv("CIFAKE_RELEASED")

    def recipe(stage, **later):
        parameters = runs.find_run(stage, released=True).manifest["parameters"]
        return runs.Run(stage, Path(), {"parameters": parameters | later}).recipe

    data = {"class_names": ["REAL", "FAKE"], "split_shares": [], "left_out_sources": []}
    later = {
        "baseline_cnn": {"builder": "baseline_cnn"},
        "tuned_cnn": {"search_space": "tuned_cnn", "initial_weights": "none"},
        "resnet50": {"backbone": "resnet50", "head": "global_average"},
    }
    for stage, own in later.items():
        assert recipe(stage, **data, **own, crop="centre") == recipe(stage)
        assert recipe(stage, crop="squash") != recipe(stage)
        assert recipe(stage, split_shares=[0.7, 0.2, 0.1]) != recipe(stage)
    assert recipe("resnet50", initial_weights="none") != recipe("resnet50")


def test_an_interrupted_run_goes_on_though_its_notebook_has_gained_a_parameter():
    runs.start_run("resnet50", run_id="x", parameters={"epochs": 3})
    runs.start_run("resnet50", run_id="x", parameters={"epochs": 3, "crop": "centre"})
    with pytest.raises(ValueError, match="other parameters"):
        runs.start_run("resnet50", run_id="x", parameters={"epochs": 3, "crop": "squash"})
