"""What the cards say is what the released run files say."""

import json
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest

from cifake_lib import (
    cards,
    cards_training,
    comparison,
    corruptions,
    evaluation,
    paths,
    profiles,
    runs,
)
from cifake_lib.indexing import OBJECT_CLASSES
from cifake_lib.releases import release
from cifake_lib.splits import SPLITS

PARAMETERS = {"baseline_cnn": 1_001, "tuned_cnn": 20_002, "resnet50": 300_003}
FACTS = {
    "name": "made-up",
    "split_hash": "ab" * 32,
    "counts": {split: {"REAL": 30 + i, "FAKE": 40 + i} for i, split in enumerate(SPLITS)},
}
FITTED = {"temperature": 1.2345678, "metrics": {"ece": 0.0321}}


def train(stage, **parameters):
    common = {"augmentation": ["shift"], "batch_size": 64, "epochs": 9, "unseen_corruption": "blur"}
    run = runs.start_run(stage, run_id=f"{stage}-7", parameters={**common, **parameters}, seed=7)
    history = {"phase": ["training"] * 3, "epoch": [1, 2, 3], "val_log_loss": [0.5, 0.2, 0.3]}
    run.write_csv("history.csv", pd.DataFrame(history))
    if stage == "tuned_cnn":
        trials = {
            "trial": ["0002", "0001", "0000"],
            "status": ["completed", "completed", "failed"],
            "val_log_loss": [0.25, 0.5, np.nan],
            "width": [24, 16, 32],
            "optimizer": ["adam", "sgd", "adam"],
            "learning_rate": [0.00314, np.nan, 0.1],
            "sgd_learning_rate": [np.nan, 0.0777, np.nan],
        }
        run.write_csv("trials.csv", pd.DataFrame(trials))
    model = {
        **{"builder": stage, "display_name": f"The {stage}", "arguments": {"dropout": 0.25}},
        **{"parameters": PARAMETERS[stage], "weights_bytes": 4_560_000},
        **{"input_size": 48, "view_averaged": True},
    }
    training = {
        **{"seconds": 360.0, "epochs": 3, "images_per_second": 1234.4, "peak_memory_mb": 987},
        "device": "CPU",
    }
    finished = run.finish(data=FACTS, model=model, training=training, **FITTED)
    return change_manifest(finished, processor="Made-up Processor × 2")


def change_manifest(run, **facts):
    runs.write_json(run.folder / "manifest.json", {**run.manifest, **facts})
    return runs.Run(run.stage, run.folder, {**run.manifest, **facts})


def evaluate(found):
    """An evaluation of random scores, by the functions that notebook 05 uses."""
    rng = np.random.default_rng(0)
    y_true = np.arange(60) % 2
    logits = {stage: rng.normal(size=60) + 2 * y_true - 1 for stage in found}
    together = np.mean(list(logits.values()), axis=0)
    metrics = evaluation.evaluate_models(
        y_true,
        {**logits, "ensemble": together},
        dict.fromkeys([*found, "ensemble"], 1.0),
        resamples=50,
    )
    names = [OBJECT_CLASSES[row % 3] for row in range(60)]
    predictions = pd.DataFrame({"label": y_true, "path": names, "object_class": names})
    conditions = []
    for key, values in {**logits, "ensemble": together}.items():
        p_fake = evaluation.probability(values)
        points = evaluation.operating_points(y_true, p_fake)
        predictions[f"{key}_p_fake"], predictions[f"{key}_logit"] = p_fake, values
        metrics[key] |= {
            "operating_points": evaluation.at_operating_points(y_true, p_fake, points),
            **{"parameters": PARAMETERS.get(key, 321_006), "weights_bytes": 13_680_000},
            **{"training_seconds": 1080.0, "images_per_second_batch_1": 111.1},
            "images_per_second_batch_256": 4321.0,
        }
        for name, severity in [("clean", 0), *corruptions.CONDITIONS]:
            level = np.nan
            if severity:
                level = corruptions.CORRUPTIONS[name].levels[severity - 1]
            rates = rng.uniform(0.6, 0.9, 6)
            conditions.append([key, name, severity, level, *rates])
    columns = ["model", "corruption", "severity", "level", "accuracy", "accuracy_low"]
    columns += ["accuracy_high", "true_positive_rate", "true_negative_rate", "roc_auc"]
    same = found["baseline_cnn"].recipe
    trained = [  # run, recipe, seed, epochs, share of corrupted images
        ("baseline_cnn", "baseline_cnn-7", same, 7, 20, 0.5),
        ("baseline_cnn", "again", same, 8, 20, 0.5),
        ("baseline_cnn", "longer", "r0", 9, 20, 0.5),
        ("baseline_cnn", "clean-8", "r1", 8, 20, 0.0),
        ("baseline_cnn", "clean-7", "r1", 7, 10, 0.0),
        ("tuned_cnn", "tuned_cnn-7", "r2", 7, 20, 0.5),
    ]
    scored = pd.DataFrame(
        [
            (stage, name, "full", "CNN", recipe, seed, 900, *rest, *rng.uniform(0.7, 0.9, 6), "")
            for stage, name, recipe, seed, *rest in trained
        ],
        columns=comparison.SCORED,
    )
    run = runs.start_run("evaluation", run_id="e", parameters={"robustness_images": 50})
    run.write_json("metrics.json", {"split": "test", "count": 60, "models": metrics})
    run.write_csv("predictions.csv", predictions)
    run.write_csv("robustness.csv", pd.DataFrame(conditions, columns=columns))
    run.write_csv("runs.csv", scored)
    run.write_csv("seeds.csv", comparison.average_over_seeds(scored))
    members = {stage: model.run_id for stage, model in found.items()}
    weights = dict(zip(found, (0.3, 0.2, 0.5), strict=True))
    return run.finish(
        data=FACTS, upstream=members, ensemble={"members": members, "weights": weights, **FITTED}
    )


def index():
    run = runs.start_run("data", run_id="d", parameters={"image_size": 48})
    rows = pd.DataFrame({"path": [f"{row}.png" for row in range(12)], "label": [0, 1] * 6})
    rows["object_class"] = ["dog", "cat"] + ["cat", "cat", "dog", "cat", "dog"] * 2
    # Images 1 and 3 are copies, both FAKE.
    rows["content_hash"] = [f"{1 if row == 3 else row:064x}" for row in range(12)]
    rows["official_split"], rows["crosses_split"] = "", False
    rows["split"] = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
    run.write_csv("split.csv.gz", rows)
    means = {"REAL": [125.31, 120.0, 110.0], "FAKE": [115.0, 113.0, 95.5]}
    metrics = {"images": 12, "skipped": 5, "crossing": 0}
    near = {"REAL": 4, "FAKE": 5, "both classes": 6, "across splits": 7}
    reached = {"accuracy": 0.6123, "accuracy_low": 0.5, "accuracy_high": 0.7, "roc_auc": 0.65}
    audit = {
        "copies": {"near pairs": near},
        "shortcuts": {"colour": {"features": 12, **reached}},
    }
    run.write_json("metrics.json", {**metrics, "channel_means": means, **audit})
    return run.finish(data=FACTS, metrics=metrics)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released-set")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAKE_RUNS", str(folder / "runs"))
        patch.setenv("CIFAKE_RELEASED", str(folder / "released"))
        found = {
            "baseline_cnn": train("baseline_cnn", corruption_share=0.5, learning_rate=0.00271),
            "tuned_cnn": train("tuned_cnn", corruption_share=0.5, tuner="bayesian"),
            "resnet50": train("resnet50", corruption_share=0.0, initial_weights="/a/b/start.h5"),
        }
        for run in [*found.values(), index(), evaluate(found)]:
            release(run)
    return folder / "released"


@pytest.fixture(autouse=True)
def released(made, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CIFAKE_RELEASED", str(tmp_path / "released"))
    return shutil.copytree(made, tmp_path / "released")


def rewrite(stage, name, change):
    """Change a released CSV or JSON file as another run would have: with its hash."""
    run = runs.find_run(stage, released=True)
    path = run.folder / name
    if name.endswith(".json"):
        runs.write_json(path, change(run.read_json(name)))
    else:
        change(run.read_csv(name)).to_csv(path, index=False, na_rep="nan")
    files = {**run.manifest["files"], name: runs.file_hash(path)}
    change_manifest(run, files=files)


def cells(card, start):
    """The cells of the one table row whose first cell begins so."""
    (row,) = re.findall(rf"^\| {re.escape(start)}.*\|$", card, re.MULTILINE)
    return [cell.strip() for cell in row.strip("|").split("|")]


def measured(key):
    return runs.find_run("evaluation", released=True).read_json("metrics.json")["models"][key]


def all_cards():
    return [path.read_text(encoding="utf-8") for path in cards.write()]


@pytest.mark.parametrize("key", [*runs.MODEL_STAGES, "ensemble"])
def test_results_are_those_of_the_evaluation(key):
    card = cards.ensemble_card() if key == "ensemble" else cards.model_card(key)
    model = measured(key)
    low, high = model["intervals"]["accuracy"]
    assert cells(card, "Accuracy")[1:] == [
        f"{100 * model['accuracy']:.1f} %",
        f"{100 * low:.1f}–{100 * high:.1f} %",
    ]
    low, high = model["intervals"]["roc_auc"]
    assert cells(card, "ROC AUC")[1:] == [f"{model['roc_auc']:.4f}", f"{low:.4f}–{high:.4f}"]
    assert cells(card, "Brier")[1:] == [f"{model['brier']:.4f}", ""]
    (_, fp), (fn, _) = model["confusion"]
    assert f"Of 30 REAL {fp} were called FAKE; of 30 FAKE {fn} passed as REAL." in card
    point = model["operating_points"]["fpr_5"]
    assert cells(card, "`fpr_5`")[1] == f"{point['threshold']:.6g}"
    assert cells(card, "`fpr_5`")[2].startswith(f"{100 * point['true_positive_rate']:.1f} % (")
    assert cells(card, "`fpr_5`")[3] == f"{100 * point['false_positive_rate']:.1f} %"
    assert "a temperature of 1.235" in card
    assert f"`p_fake` is {model['ece']:.4f} on the test split and 0.0321" in card


def test_a_model_is_described_by_its_manifest():
    card = cards.model_card("baseline_cnn")
    assert card.startswith("# Model card: The baseline_cnn\n")
    assert "1,001 parameters; the weights take 4.56 MB" in card
    assert "shape `(batch, 48, 48, 3)`" in card and "mirrored or not" in card
    assert cells(card, "validation")[1:] == ["31", "41"]
    assert FACTS["split_hash"] in card and "`baseline_cnn-7`, seed 7" in card
    assert cells(card, "learning rate")[1] == "0.00271"
    assert "Epochs: 3 (training 3); the weights are those of epoch 2" in card
    assert "360 s, 1,234 images/s" in card and "987 MB" in card
    assert "50 % of the training images were corrupted: JPEG, Noise" in card
    assert "what carries over: Blur." in card
    assert "ResNet" not in card


def test_the_robustness_table_marks_the_family_left_out_of_training():
    card = cards.model_card("baseline_cnn")
    table = runs.find_run("evaluation", released=True).read_csv("robustness.csv")
    table = table[(table["model"] == "baseline_cnn") & (table["corruption"] != "clean")]
    assert card.count("(not in training)") == (table["corruption"] == "blur").sum() == 3
    assert "50 of the test images, corrupted in 13 ways" in card
    row = table[(table["corruption"] == "crop")].iloc[0]
    assert cells(card, "Crop")[1:4] == [
        "0.8",
        "side kept, enlarged back",
        f"{100 * row.accuracy:.1f} % "
        f"({100 * row.accuracy_low:.1f}–{100 * row.accuracy_high:.1f} %)",
    ]
    blurred = table.loc[table["corruption"] == "blur", "accuracy"].mean()
    worst = table.loc[table["accuracy"].idxmin()]
    assert f"Mean accuracy over the corruptions {100 * table['accuracy'].mean():.1f} %" in card
    assert f"Mean over what training left out: {100 * blurred:.1f} %" in card
    limits = card[card.index("## Limits") :]
    assert f"finds {100 * worst.true_positive_rate:.1f} % of FAKE" in limits
    assert f"leaves {100 * worst.true_negative_rate:.1f} % of REAL alone" in limits
    # Trained without corruptions, all of them were new: nothing is marked.
    assert "(not in training)" not in cards.model_card("resnet50")


def test_other_seeds_and_the_twin_trained_without_corruptions_are_compared():
    card = cards.model_card("baseline_cnn")
    evaluated = runs.find_run("evaluation", released=True)
    seeds, scored = evaluated.read_csv("seeds.csv").iloc[0], evaluated.read_csv("runs.csv")
    assert "Over 2 seeds" in card
    assert (
        f"accuracy {100 * seeds.accuracy_mean:.2f} % ± {100 * seeds.accuracy_deviation:.2f} %"
        in card.lower()
    )
    twin = scored[scored["run_id"] == "clean-7"].iloc[0]
    assert cells(card, "0 %") == [
        *(
            "0 %",
            "7",
            f"{twin.epochs}",
            f"{100 * twin.accuracy:.1f} %",
            f"{100 * twin.robust_mean:.1f} %",
        ),
        f"{100 * twin.robust_worst:.1f} %",
    ]


def test_what_was_not_measured_is_left_out_or_said():
    card = cards.model_card("tuned_cnn")
    assert "another seed changes was not measured" in card
    assert "Against the same model" not in card
    assert "## Search" not in cards.model_card("baseline_cnn")
    for name in ("seeds.csv", "runs.csv"):
        rewrite("evaluation", name, lambda table: table.iloc[:0])
    assert "another seed changes was not measured" in cards.model_card("baseline_cnn")
    rewrite("evaluation", "predictions.csv", lambda table: table.assign(object_class=""))
    rewrite("data", "split.csv.gz", lambda table: table.assign(object_class=""))
    assert "kind of object" not in cards.model_card("baseline_cnn")
    assert "| kind of object" not in cards.data_card()
    for card in all_cards():
        assert not re.search(r"^## [^\n]+\n+(?=## |\Z)", card, re.MULTILINE), "empty section"
        assert not re.search(r"\b(nan|None|NaN)\b", card)
        assert "\n\n\n" not in card


def test_the_search_shows_its_size_and_its_winner():
    card = cards.model_card("tuned_cnn")
    assert "(tuner `bayesian`) ran 3 trials, 2 of them to the end" in card
    search = card[card.index("## Search") :]
    assert cells(search, "learning rate")[1] == "0.00314"
    assert cells(search, "width")[1] == "24"
    assert "sgd learning rate" not in card, "the winner did not use it"


def test_a_model_that_the_evaluation_did_not_measure_has_no_results(released):
    assert "check for leaks" not in cards.model_card("baseline_cnn")
    run = runs.find_run("baseline_cnn", released=True)
    change_manifest(run, data={**FACTS, "split_hash": "cd" * 32})
    assert "check for leaks" in cards.model_card("baseline_cnn")
    change_manifest(run, run_id="newer")
    card = cards.model_card("baseline_cnn")
    assert "Not measured" in card and "Operating points" not in card
    with pytest.raises(runs.RunNotFound, match="baseline_cnn"):
        cards.ensemble_card()
    shutil.rmtree(released / "evaluation")
    assert len(cards.write()) == 4


def test_the_ensemble_is_the_sum_of_its_models():
    card = cards.ensemble_card()
    assert cells(card, "[The resnet50](../resnet50/MODEL_CARD.md)")[1:4] == [
        "`resnet50-7`",
        "0.500",
        "300,003",
    ]
    assert "321,006 parameters; the weights take 13.68 MB" in card
    assert "were trained for 1,080 s together" in card
    assert "about 6.00 Wh" in card
    assert "He, X. Zhang" in card


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"device": "CPU"}, "about 2.00 Wh. This is an estimate, not a measurement"),
        ({"device": "Made-up GPU"}, "no estimate is made for training on Made-up GPU"),
        ({"device": "Made-up GPU", "energy_wh": 4.5}, "4.50 Wh, as the run recorded it"),
    ],
)
def test_energy_is_estimated_for_processors_only(facts, expected):
    run = runs.find_run("baseline_cnn", released=True)
    changed = change_manifest(run, training={**run.manifest["training"], **facts})
    assert expected in cards_training.energy({"baseline_cnn": changed})


@pytest.mark.parametrize(
    ("source", "notes", "expected"),
    [
        ("data/start.h5", [], "the file `start.h5`"),
        (r"C:\data\start.h5", [], "the file `start.h5`"),
        ("imagenet", [], "the ImageNet weights"),
        ("imagenet", ["Trained from random weights. No internet."], "random weights."),
        ("none", [], "random weights."),
    ],
)
def test_the_initial_weights_are_named(source, notes, expected):
    run = runs.find_run("resnet50", released=True)
    parameters = {**run.manifest["parameters"], "initial_weights": source}
    change_manifest(run, parameters=parameters, notes=notes)
    assert f"ResNet-50 started from {expected}" in cards.model_card("resnet50")


@pytest.mark.parametrize(("phase", "shown"), [("restart_1", True), ("fine_tune", False)])
def test_settings_of_a_phase_are_shown_where_it_took_place(phase, shown):
    lengths = {"restart_epochs": [4321], "head_epochs": 8765}
    run = runs.find_run("resnet50", released=True)
    change_manifest(run, parameters={**run.manifest["parameters"], **lengths})
    history = run.read_csv("history.csv").assign(phase=["fine_tune", "fine_tune", phase])
    rewrite("resnet50", "history.csv", lambda _: history)
    card = cards.model_card("resnet50")
    assert ("4321" in card) == shown
    assert "8765" not in card


def test_the_winner_is_that_of_the_promotion():
    run = runs.find_run("tuned_cnn", released=True)
    assert cells(cards.model_card("tuned_cnn"), "width")[1:] == ["24"]
    promoted = pd.DataFrame({"trial": ["0001", "0002"], "epochs": 6})
    promoted.to_csv(run.folder / "promoted.csv", index=False)
    files = {**run.manifest["files"], "promoted.csv": runs.file_hash(run.folder / "promoted.csv")}
    change_manifest(run, files=files)
    card = cards.model_card("tuned_cnn")
    assert cells(card, "width")[1:] == ["16"]
    assert card.count("| 0.0777 |") == 2, "as a setting and as a hyperparameter"
    assert "The best 2 were tried again for 6 epochs on all training images. The best of" in card
    change_manifest(run, files=files, parameters={**run.manifest["parameters"], "trial": "0002"})
    card = cards.model_card("tuned_cnn")
    assert cells(card, "width")[1:] == ["24"]
    assert "Trial 0002 of them was trained in full, chosen by hand." in card


def test_the_card_gives_the_command_that_trains_the_model_again():
    run = runs.find_run("tuned_cnn", released=True)
    assert cards_training.retrain_command(run) == ""  # made without a profile
    assert "Train it again" not in cards.model_card("tuned_cnn")
    usual = {"data_dir": "cifake-train", "tuner": "bayesian", "search_trials": 32}
    own = {"run_id": "seed-7", "profile": "full", "seed": 7, "augmentation": ["shift"]}
    taught = {"teacher": "resnet50/r", "teacher_passes": 5, "initial_weights": "a.weights.h5"}
    run = change_manifest(run, profile="full", parameters={**usual, **own, **taught})
    card = cards.model_card("tuned_cnn")
    (line,) = re.findall(r"```\n(.*)\n```", card)
    command = shlex.split(line)
    assert command[:2] == ["python", "-m"]
    options = command[3:]
    assert options[:6] == ["--profile", "full", "--only", "tuned_cnn", "--run-id", "tuned_cnn-7"]
    settings = profiles.read_settings()
    given = profiles.override_values(settings, options[7::2], selected=["tuned_cnn"])["tuned_cnn"]
    assert given == {"seed": 7, "augmentation": ["shift"], "teacher": "resnet50/r"}
    assert "Train its teacher, `resnet50/r`, first." in card


def test_the_data_card_counts_the_images_of_the_split():
    card = cards.data_card()
    assert "12 images, used at 48 × 48 pixels. 5 files" in card
    assert cells(card, "train")[1:] == ["3", "3", "1", "0"]
    assert cells(card, "kind of object")[1:] == ["REAL", "FAKE"]
    assert cells(card, "cat")[1:] == ["3", "4"]
    assert "Exact copies: 0 of REAL, 1 of FAKE" in card
    assert "4 of REAL, 5 of FAKE, 6 of both classes; 7 of them lie in two splits" in card
    assert cells(card, "colour") == ["colour", "12", "0.612 (0.500–0.700)", "0.650"]
    assert cells(card, "REAL") == ["REAL", "125.3", "120.0", "110.0"]
    assert "differ most in blue, by 14.5" in card
    assert FACTS["split_hash"] in card and "10 % of the buckets are for test" in card
    change = {"official_split": ["train"] * 8 + ["test"] * 4}
    rewrite("data", "split.csv.gz", lambda table: table.assign(**change))
    card = cards.data_card()
    assert "test is the data set's own folder, 5 % of the buckets are for validation" in card


def test_licence_and_citations_are_those_of_the_data_readme():
    readme = (paths.project_root() / "data" / "README.md").read_text(encoding="utf-8")
    for line in (cards.LICENCE_STATEMENT, *cards.CITATIONS):
        assert line in readme
    assert all(
        line in card
        for card in all_cards()
        for line in ('"published under the same MIT license as CIFAR-10"', *cards.CITATIONS)
    )


def test_a_typed_number_and_a_missing_card_are_noticed(released):
    assert len(cards.outdated()) == 5
    assert sorted(cards.write()) == sorted(released.glob("*/*_CARD.md"))
    assert cards.outdated() == []
    card = released / "resnet50" / "MODEL_CARD.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("300,003", "300,004"), encoding="utf-8")
    (released / "data" / "DATA_CARD.md").unlink()
    assert cards.outdated() == [card, released / "data" / "DATA_CARD.md"]


def test_another_result_changes_the_card(released):
    cards.write()

    def better(metrics):
        metrics = json.loads(json.dumps(metrics))
        metrics["models"]["tuned_cnn"]["accuracy"] = 0.9876
        return metrics

    rewrite("evaluation", "metrics.json", better)
    assert cards.outdated() == [released / "tuned_cnn" / "MODEL_CARD.md"]
    cards.write()
    assert cells(cards.model_card("tuned_cnn"), "Accuracy")[1] == "98.8 %"
    (released / "evaluation" / "robustness.csv").write_text("typed")
    with pytest.raises(runs.RunDamaged, match="robustness.csv"):
        cards.outdated()
