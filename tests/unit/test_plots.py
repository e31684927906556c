import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from cifake_lib import plots, plots_data, plots_robustness, plots_training
from cifake_lib.calibration import expected_calibration_error
from cifake_lib.corruptions import CORRUPTIONS
from cifake_lib.evaluation import comparison_table, curve_points, evaluate_models

MODELS = ("baseline_cnn", "tuned_cnn", "resnet50")


@pytest.fixture(autouse=True)
def no_figure_left_open():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    """Axes outside pyplot, as the dashboard makes them."""
    return Figure(figsize=(5, 4)).subplots()


@pytest.fixture(scope="module")
def evaluated():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 1500)
    logits = {
        key: (2 * y_true - 1) * (index + 1.5) + rng.normal(scale=2, size=1500)
        for index, key in enumerate(MODELS)
    }
    found = evaluate_models(y_true, logits, dict.fromkeys(MODELS, 1.0), resamples=50)
    for index, key in enumerate(MODELS):
        found[key] |= {
            "training_seconds": 60.0 * 10**index,
            "parameters": 2e5 * 10**index,
            "images_per_second_batch_256": 5000 / 10**index,
        }
    return y_true, {key: expit(values) for key, values in logits.items()}, found


def test_every_model_and_class_has_a_colour_of_its_own():
    assert list(plots.MODEL_COLOURS) == [*MODELS, "own_model", "ensemble"]
    assert list(plots.CLASS_COLOURS) == ["REAL", "FAKE"]
    everything = [*plots.MODEL_COLOURS.values(), *plots.CLASS_COLOURS.values()]
    assert len({to_rgb(colour) for colour in everything}) == 7


def test_keys_are_shown_as_people_read_them():
    names = [plots.display_name(key) for key in plots.MODEL_COLOURS]
    assert names == ["Baseline CNN", "Tuned CNN", "ResNet-50", "Your model", "Ensemble"]
    assert plots.display_name("roc_auc") == "ROC AUC"
    assert plots.display_name("precision_fake") == "Precision of FAKE"
    assert plots.display_name("learning_rate") == "Learning rate"


def test_new_figures_are_unknown_to_pyplot():
    plots.new_figure(3, 2)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax, y, s: plots.roc_curves({"resnet50": (y, s)}, ax=ax),
        lambda ax, y, s: plots.pr_curves({"resnet50": (y, s)}, ax=ax),
        lambda ax, y, s: plots.reliability({"resnet50": (y, s)}, ax=ax),
        lambda ax, y, s: plots.confusion([[9, 1], [2, 8]], title="Baseline CNN", ax=ax),
        lambda ax, y, s: plots.metric_points(
            pd.DataFrame({"f1": [0.9]}, index=["resnet50"]), ["f1"], ax=ax
        ),
        lambda ax, y, s: plots_data.split_counts(
            pd.DataFrame({"REAL": [3], "FAKE": [2]}, index=["train"]), ax=ax
        ),
        lambda ax, y, s: plots_training.hyperparameter_importance(pd.Series({"width": 1.0}), ax=ax),
    ],
)
def test_axes_are_drawn_on_where_given_and_labelled(ax, draw, evaluated):
    y_true, y_score, _ = evaluated
    assert draw(ax, y_true, y_score["resnet50"]) is ax
    assert plt.get_fignums() == []  # the dashboard has no pyplot state to clean up
    assert ax.get_title()
    assert ax.get_xlabel() or ax.get_xticklabels()[0].get_text()
    ax.figure.savefig("/dev/null", format="png")

    opened = draw(None, y_true, y_score["resnet50"])
    assert isinstance(opened, Axes)
    assert opened.get_title() == ax.get_title()
    assert len(plt.get_fignums()) == 1


# ------------------------------------------------------------------------------------- evaluation
def test_confusion_shows_counts_and_shares_of_the_true_class(ax):
    plots.confusion([[900, 100], [50, 1950]], title="ResNet-50", ax=ax)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["900\n90.0 %", "100\n10.0 %", "50\n2.5 %", "1,950\n97.5 %"]
    assert (ax.get_title(), ax.get_xlabel()) == ("ResNet-50", "Predicted class")
    assert ax.get_ylabel() == "True class"
    for axis in (ax.xaxis, ax.yaxis):
        assert [label.get_text() for label in axis.get_ticklabels()] == ["REAL", "FAKE"]


def test_roc_curves_run_from_corner_to_corner_best_first(ax, evaluated):
    y_true, y_score, _ = evaluated
    plots.roc_curves({key: (y_true, y_score[key]) for key in MODELS}, ax=ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    expected = [roc_auc_score(y_true, y_score[key]) for key in reversed(MODELS)]
    assert labels == [
        f"{plots.display_name(key)} ({area:.4f})"
        for key, area in zip(reversed(MODELS), expected, strict=True)
    ]
    best = ax.lines[0]
    assert same_color(best.get_color(), plots.MODEL_COLOURS["resnet50"])
    assert best.get_xydata()[[0, -1]].tolist() == [[0, 0], [1, 1]]


def test_pr_curves_take_points_from_a_file(ax, evaluated):
    y_true, y_score, _ = evaluated
    points = curve_points(y_true, y_score["tuned_cnn"])
    plots.pr_curves({"tuned_cnn": points}, ax=ax)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), points["pr"]["recall"])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), points["pr"]["precision"])
    area = average_precision_score(y_true, y_score["tuned_cnn"])
    assert ax.get_legend().get_texts()[0].get_text() == f"Tuned CNN ({area:.4f})"


@pytest.mark.parametrize(("separation", "enlarged"), [(0.5, 0), (6.0, 1)])
def test_the_corner_of_a_good_curve_is_enlarged(ax, separation, enlarged):
    rng = np.random.default_rng(0)
    y_true = np.tile([0, 1], 200)
    y_score = expit((2 * y_true - 1) * separation + rng.normal(size=400) * 2)
    plots.roc_curves({"resnet50": (y_true, y_score)}, ax=ax)
    assert len(ax.child_axes) == enlarged


def test_reliability_compares_scores_with_fractions(ax):
    # 100 images at .25, a quarter of them FAKE; 10 at .95, half of them FAKE; 2 are too few.
    y_score = np.repeat([0.25, 0.95, 0.55], [100, 10, 2])
    y_true = np.repeat([1, 0, 1, 0, 1], [25, 75, 5, 5, 2])
    plots.reliability({"before": (y_true, y_score)}, ax=ax)
    line = ax.lines[1]
    np.testing.assert_allclose(line.get_xydata(), [[0.25, 0.25], [0.95, 0.5]])
    error = expected_calibration_error(y_true, y_score)
    assert ax.get_legend().get_texts()[0].get_text() == f"Before ({error:.4f})"
    (few_low, few_high), (low, high) = (
        segment[:, 1] for segment in ax.collections[0].get_segments()[::-1]
    )
    assert low < 0.25 < high
    assert few_low < 0.5 < few_high
    assert few_high - few_low > 2 * (high - low)


def test_metric_points_are_as_high_as_the_values(ax, evaluated):
    table = comparison_table(evaluated[2])
    plots.metric_points(table, ["f1", "roc_auc"], ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "F1 (mean of classes)",
        "ROC AUC",
    ]
    for key, points in zip(table.index, ax.lines, strict=True):
        assert points.get_label() == plots.display_name(key)
        assert points.get_ydata().tolist() == table.loc[key, ["f1", "roc_auc"]].tolist()
        assert same_color(points.get_color(), plots.MODEL_COLOURS[key])
    written = [text.get_text() for text in ax.texts]
    assert written[:2] == [f"{table.loc['baseline_cnn', name]:.3f}" for name in ("f1", "roc_auc")]
    interval = ax.collections[0].get_segments()[0][:, 1]
    assert interval.tolist() == table.loc["baseline_cnn", ["f1_low", "f1_high"]].tolist()


def test_cost_leaves_out_models_without_one(evaluated):
    figure = plots.cost_against_quality(comparison_table(evaluated[2]))
    labels = [panel.get_xlabel() for panel in figure.axes]
    assert labels == [
        "Training time (minutes)",
        "Parameters (millions)",
        "Speed, 256 at once (images/s)",
    ]
    points = {line.get_label(): line.get_xydata()[0] for line in figure.axes[0].lines}
    assert list(points) == ["Baseline CNN", "Tuned CNN", "ResNet-50"]
    assert points["Tuned CNN"].tolist() == [10, evaluated[2]["tuned_cnn"]["f1"]]


def test_cost_has_a_panel_for_each_cost(evaluated):
    costs = ["training_energy_wh", "weights_bytes", "images_per_second_batch_1"]
    table = comparison_table(evaluated[2]).assign(**dict.fromkeys(costs, 2e6))
    figure = plots.cost_against_quality(table)
    assert [panel.get_xlabel() for panel in figure.axes] == [
        *("Training time (minutes)", "Energy of training (Wh)", "Parameters (millions)"),
        *("Size (MB)", "Speed, one by one (images/s)", "Speed, 256 at once (images/s)"),
    ]
    named = [panel.get_ylabel() == "F1 (mean of classes)" for panel in figure.axes]
    assert named == [True, False, False] * 2
    assert figure.axes[3].lines[0].get_xdata()[0] == 2


def test_robustness_has_a_panel_for_each_corruption():
    table = pd.DataFrame(
        [
            {"model": key, "corruption": name, "severity": severity, "level": level, "accuracy": y}
            for key, y in (("tuned_cnn", 0.8), ("resnet50", 0.9))
            for name, severity, level in [
                ("clean", 0, np.nan),
                *(("jpeg", i + 1, level) for i, level in enumerate(CORRUPTIONS["jpeg"].levels)),
                ("blur", 5, 2.0),
            ]
        ]
    )
    figure = plots_robustness.robustness_curves(table)
    jpeg, blur = figure.axes
    assert (jpeg.get_title(), jpeg.get_xlabel()) == ("JPEG", "JPEG quality")
    ticks = [label.get_text() for label in jpeg.get_xticklabels()]
    assert ticks == ["clean", "90", "75", "50", "30", "10"]
    assert jpeg.lines[1].get_xydata().tolist() == [[severity, 0.9] for severity in range(6)]
    assert blur.lines[0].get_xydata().tolist() == [[0, 0.8], [5, 0.8]]
    assert same_color(blur.lines[0].get_color(), plots.MODEL_COLOURS["tuned_cnn"])


# ------------------------------------------------------------------------------------------- data
@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


def shown(figure):
    return [np.asarray(panel.images[0].get_array()) for panel in figure.axes if panel.images]


def test_image_grid_shows_every_image_pixel_by_pixel(images):
    names = ["REAL", "FAKE"] * 5 + ["REAL"]
    figure = plots_data.image_grid(images, names, columns=4, title="Training images")
    np.testing.assert_array_equal(shown(figure), images)
    assert len(figure.axes) == 12  # three rows of four
    panels = figure.axes[:11]
    assert {panel.images[0].get_interpolation() for panel in panels} == {"nearest"}
    assert [panel.get_title() for panel in panels] == names
    assert same_color(panels[1].title.get_color(), plots.CLASS_COLOURS["FAKE"])
    assert figure.get_suptitle() == "Training images"
    assert figure.get_figwidth() == 9


def test_before_after_puts_each_change_under_its_original(images):
    flipped = images[:3, :, ::-1]
    figure = plots_data.before_after(images[:3], {"flip": flipped, "jpeg": images[3:6]})
    np.testing.assert_array_equal(shown(figure), [*images[:3], *flipped, *images[3:6]])
    labels = [panel.get_ylabel() for panel in figure.axes[::3]]
    assert labels == ["Original", "Flip", "JPEG"]


def test_mistakes_are_sorted_by_confidence(images):
    y_true = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    y_score = np.array([0.1, 0.6, 0.99, 0.5, 0.2, 0.9, 0.49, 0.01, 0.8, 0.3, 0.5])
    # Only some of the images were judged, in another order.
    rows = np.arange(11)[::-1] + 3
    stored = np.concatenate([images[:3], images[::-1]])
    figure = plots_data.mistakes(stored, rows, y_true, y_score, count=2)
    above, below = figure.subfigs
    np.testing.assert_array_equal(shown(above), images[[2, 1]])
    np.testing.assert_array_equal(shown(below), images[[7, 9]])
    assert above.get_suptitle() == "REAL called FAKE: 3 of 5"
    assert below.get_suptitle() == "FAKE called REAL: 3 of 6"
    assert above.axes[0].get_title() == "p_fake 0.990"


def test_mistakes_of_a_faultless_model_show_no_image(images):
    y_true = np.tile([0, 1], 6)[:11]
    figure = plots_data.mistakes(images, np.arange(11), y_true, y_true.astype(float))
    assert figure.subfigs[0].get_suptitle() == "REAL called FAKE: 0 of 6"
    assert shown(figure.subfigs[0]) == []
    assert "none" in [text.get_text() for text in figure.subfigs[0].texts]
    figure.savefig("/dev/null", format="png")


def test_split_counts_are_written_on_their_bars(ax):
    summary = pd.DataFrame(
        {"REAL": [1900, 100, 500], "FAKE": [1850, 95, 500]}, index=["train", "validation", "test"]
    )
    plots_data.split_counts(summary, ax=ax)
    for name, bars in zip(("REAL", "FAKE"), ax.containers, strict=True):
        assert [bar.get_height() for bar in bars] == summary[name].tolist()
        assert same_color(bars[0].get_facecolor(), plots.CLASS_COLOURS[name])
    assert [text.get_text() for text in ax.texts][:3] == ["1,900", "100", "500"]
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert ticks == ["Train", "Validation", "Test"]


# --------------------------------------------------------------------------------------- training
def history(epochs, **columns):
    falling = np.linspace(0.7, 0.2, epochs)
    values = {"loss": falling, "val_loss": falling + 0.1}
    values |= {"accuracy": 1 - falling, "val_accuracy": 0.9 - falling}
    return pd.DataFrame({"epoch": range(1, epochs + 1), **values, **columns})


def test_training_curves_draw_training_and_validation():
    table = history(5)
    figure = plots_training.training_curves(table)
    assert [panel.get_title() for panel in figure.axes] == ["Loss", "Accuracy"]
    training, validation = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_ydata(), table["loss"])
    np.testing.assert_array_equal(validation.get_ydata(), table["val_loss"])
    assert training.get_linestyle() == "--"
    assert validation.get_xdata().tolist() == [1, 2, 3, 4, 5]


def test_training_curves_of_several_models_wear_their_colours():
    tables = {key: history(4, learning_rate=1e-3) for key in MODELS}
    figure = plots_training.training_curves(tables)
    assert figure.axes[2].get_yscale() == "linear"  # schedules end at zero
    used = [line.get_color() for line in figure.axes[2].lines]
    assert used == [plots.MODEL_COLOURS[key] for key in MODELS]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["Baseline CNN", "Tuned CNN", "ResNet-50", "Training", "Validation"]


def test_training_curves_mark_where_fine_tuning_begins():
    table = history(5, phase=["head", "head", "fine_tune", "fine_tune", "fine_tune"])
    figure = plots_training.training_curves({"resnet50": table})
    assert figure.axes[0].lines[-1].get_xdata() == [2.5, 2.5]
    assert figure.axes[0].texts[0].get_text() == "Fine tune"
    assert len(plots_training.training_curves({"resnet50": history(5)}).axes[0].lines) == 2


def test_one_epoch_is_visible():
    figure = plots_training.training_curves({"tuned_cnn": history(1)})
    assert {line.get_marker() for line in figure.axes[0].lines} == {"o"}
    figure.savefig("/dev/null", format="png")


def test_trials_are_lines_through_their_hyperparameters():
    trials = pd.DataFrame(
        {
            "trial": [0, 1, 2, 3],
            "blocks": [2, 3, 4, 4],
            "optimizer": ["adam", "sgd", "adamw", "adam"],
            "learning_rate": [1e-4, 1e-2, 1e-3, 1e-3],
            "weight_decay": [1e-5, np.nan, 1e-3, 1e-4],
            "val_accuracy": [0.80, 0.70, 0.95, np.nan],
        }
    )
    names = ["blocks", "optimizer", "learning_rate", "weight_decay"]
    figure = plots_training.trials_parallel_coordinates(trials, hyperparameters=names)
    ax = figure.axes[0]
    assert ax.get_title() == "Hyperparameters of 3 trials"
    axis_names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert axis_names[:2] == ["Blocks", "Optimizer"]
    assert axis_names[-1] == "Validation accuracy"
    worst, middle, best, thick = [line.get_ydata() for line in ax.lines[len(names) + 1 :]]
    np.testing.assert_allclose(worst, [0.5, 1, 1, -0.12, 0])  # below the axis: not used
    np.testing.assert_allclose(middle, [0, 0, 0, 0, 0.4])
    np.testing.assert_allclose(best, [1, 0.5, 0.5, 1, 1])  # 1e-3 is half-way from 1e-4 to 1e-2
    np.testing.assert_array_equal(best, thick)


def test_importance_is_sorted_with_the_largest_on_top(ax):
    importance = pd.Series({"width": 0.2, "learning_rate": 0.7, "dropout": 0.1})
    plots_training.hyperparameter_importance(importance, ax=ax)
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    assert ticks == ["Dropout", "Width", "Learning rate"]
    assert [bar.get_width() for bar in ax.patches] == [0.1, 0.2, 0.7]


def test_the_best_trial_of_a_loss_is_the_smallest():
    trials = pd.DataFrame({"width": [16, 24, 32], "val_log_loss": [0.5, 0.1, 400.0]})
    figure = plots_training.trials_parallel_coordinates(
        trials, hyperparameters=["width"], objective="val_log_loss"
    )
    (best,) = (line for line in figure.axes[0].lines if line.get_label() == "Best trial")
    np.testing.assert_allclose(best.get_ydata(), [0.5, 1.0])


def test_the_heatmap_names_every_condition_and_marks_the_unseen_family():
    table = pd.DataFrame(
        [
            (model, corruption, severity, level, accuracy)
            for model, accuracy in (("baseline_cnn", 0.75), ("ensemble", 0.9))
            for corruption, severity, level in (
                ("clean", 0, np.nan),
                ("resize", 5, 0.25),
                ("blur", 1, 0.5),
            )
        ],
        columns=["model", "corruption", "severity", "level", "accuracy"],
    )
    ax = plots_robustness.conditions_heatmap(table, unseen=["blur"])
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        *("Clean", "Resize 0.25", "Blur 0.5 *"),
    ]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Baseline CNN", "Ensemble"]
    assert [text.get_text() for text in ax.texts] == ["75.0", "90.0"] * 3
    plt.close(ax.figure)
