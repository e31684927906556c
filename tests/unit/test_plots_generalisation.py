"""What the figures of notebook 06 and of breakdowns show is what their tables say."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from cifake_lib import plots, plots_breakdown, plots_explain, plots_generalisation
from cifake_lib.data import KNOWN_ORIGIN


def test_scores_of_each_origin_have_a_panel():
    scored = pd.DataFrame(
        {
            "origin": [KNOWN_ORIGIN] * 4 + ["glide"] * 4,
            "label": [0, 0, 1, 1, 1, 1, 1, 1],
            "ensemble_p_fake": [0.01, 0.02, 0.97, 0.98, 0.01, 0.01, 0.01, 0.99],
        }
    )
    figure = plots_generalisation.score_distributions(scored, bins=10)
    known, glide = figure.axes
    assert known.get_title() == "The test images"
    assert [text.get_text() for text in known.get_legend().get_texts()] == ["REAL (2)", "FAKE (2)"]
    assert [bar.get_height() for bar in glide.patches] == pytest.approx([75, *[0] * 8, 25])
    assert same_color(glide.patches[0].get_facecolor()[:3], plots.CLASS_COLOURS["FAKE"])


def test_scope_bars_are_as_long_as_the_shares():
    table = pd.DataFrame(
        {
            "kind": ["known", "stranger: text"],
            **{"outside": [0.05, 0.9], "outside_low": [0.03, 0.8], "outside_high": [0.07, 0.95]},
            **{"accuracy_inside": [0.9, np.nan], "accuracy_outside": [np.nan, np.nan]},
        }
    )
    ax = plots_generalisation.scope_bars(table, allowed=0.05)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([5, 90])
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()
    assert ax.patches[0].get_y() > ax.patches[1].get_y()
    assert [text.get_text() for text in ax.texts] == ["5", "90"]
    assert ax.lines[0].get_xdata()[0] == 5


def test_flips_of_each_delivery_and_model():
    table = pd.DataFrame(
        {
            "model": ["baseline_cnn", "resnet50"] * 2,
            "delivery": ["none", "none", "messenger", "messenger"],
            "flipped": [0, 0, 0.25, 0.125],
        }
    )
    ax = plots_generalisation.flip_bars(table)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Messenger"]
    heights = {bars.get_label(): bars[0].get_height() for bars in ax.containers}
    assert heights == {"Baseline CNN": 25, "ResNet-50": 12.5}
    assert same_color(ax.containers[1][0].get_facecolor(), plots.MODEL_COLOURS["resnet50"])


def test_kinds_of_object_are_ordered_by_accuracy():
    rows = [
        ("cat", "resnet50", 1200, 0.9, 0.85, 0.95),
        ("dog", "resnet50", 90, 0.8, 0.7, 0.9),
    ]
    columns = ["object_class", "model", "images", "accuracy", "accuracy_low", "accuracy_high"]
    ax = plots_breakdown.object_classes(pd.DataFrame(rows, columns=columns))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dog (90)", "cat (1,200)"]
    (points,) = ax.lines
    assert points.get_xdata().tolist() == pytest.approx([80, 90])
    assert ax.collections[0].get_segments()[1][:, 0].tolist() == pytest.approx([85, 95])


def test_agreement_is_written_into_the_cells():
    table = pd.DataFrame([[1, 0.25], [0.25, 1]], ["baseline_cnn", "resnet50"])
    table.columns = table.index
    ax = plots_breakdown.agreement_heatmap(table)
    assert [text.get_text() for text in ax.texts] == ["1.000", "0.250", "0.250", "1.000"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Baseline CNN", "ResNet-50"]


def test_maps_stand_beside_their_images():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    maps = {("resnet50", "grad_cam"): np.ones((2, 8, 8)), ("resnet50", "occlusion"): images[..., 0]}
    figure = plots_explain.heat_maps(images, ["REAL, 0.1", "FAKE, 0.9"], maps)
    assert len(figure.axes) == 6
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[:4] == ["REAL, 0.1", "ResNet-50\nGrad-CAM", "ResNet-50\nOcclusion", "FAKE, 0.9"]
    assert len(figure.axes[1].images) == 2
    assert (figure.axes[1].images[1].get_array() == 1).all()


def test_curves_have_their_area_in_the_legend():
    share = [0, 0.5, 1]
    falling = pd.DataFrame({"share": share, "deletion": [1, 0.5, 0], "insertion": [0, 1, 1]})
    noise = pd.DataFrame({"share": share, "deletion": [1, 1, 0], "insertion": [0, 0, 1]})
    curves = {("resnet50", "grad_cam"): falling, ("resnet50", "random"): noise}
    deletion, insertion = plots_explain.deletion_insertion_curves(curves).axes
    assert [line.get_label() for line in deletion.lines] == ["Grad-CAM (0.50)", "Random (0.75)"]
    assert [line.get_label() for line in insertion.lines] == ["Grad-CAM (0.75)", "Random (0.25)"]
    assert deletion.lines[1].get_linestyle() == ":"
    assert insertion.lines[0].get_xdata().tolist() == [0, 50, 100]
