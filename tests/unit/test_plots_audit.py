"""The audit's figures show the numbers they were given."""

import numpy as np
import pandas as pd

from cifake_lib import plots, plots_audit


def test_pairs_stand_above_each_other_with_class_and_distance():
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    pairs = pd.DataFrame({"first": [0, 1], "second": [2, 3], "distance": [1, 4]})
    figure = plots_audit.image_pairs(images, pairs, np.array([0, 1, 0, 0]))
    shown = [panel for panel in figure.axes if panel.images]
    values = [int(panel.images[0].get_array().mean()) for panel in shown]
    titles = [panel.get_title() for panel in shown]
    assert values == [0, 1, 2, 3]
    assert titles == ["1 bit\nREAL", "4 bits\nFAKE", "REAL", "REAL"]
    figure.savefig("/dev/null", format="png")


def test_no_pairs_is_a_figure_too():
    none = pd.DataFrame({"first": [], "second": [], "distance": []})
    figure = plots_audit.image_pairs(np.zeros((2, 8, 8, 3), np.uint8), none, np.zeros(2, int))
    assert not any(panel.images for panel in figure.axes)
    assert "none found" in {text.get_text() for text in figure.texts}
    figure.savefig("/dev/null", format="png")


def test_spectra_share_a_scale_and_the_difference_is_centred():
    real, fake = np.full((8, 8), 2.0), np.full((8, 8), 3.0)
    fake[0, 0] = 5
    figure = plots_audit.class_spectra({"REAL": real, "FAKE": fake})
    first, second, difference = (panel.images[0] for panel in figure.axes[:3])
    assert first.get_clim() == second.get_clim() == (2, 5)
    assert difference.get_clim() == (-3, 3)
    assert difference.get_array().max() == 3
    assert np.ma.getmaskarray(np.ma.masked_invalid(first.get_array()))[4, 4]  # Frequency 0.
    figure.savefig("/dev/null", format="png")


def test_bars_reach_to_the_accuracy_with_the_interval_around_it():
    table = pd.DataFrame(
        {"accuracy": [0.8, 0.6], "accuracy_low": [0.75, 0.5], "accuracy_high": [0.85, 0.72]},
        index=["Colours", "Encoder"],
    )
    ax = plots.new_figure(6, 2).subplots()
    assert plots_audit.shortcut_bars(table, ax=ax) is ax
    assert [bar.get_width() for bar in ax.patches] == [80, 60]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Colours", "Encoder"]
    assert {"80.0 %", "60.0 %", "guessing"} == {text.get_text() for text in ax.texts}
    plots_audit.shortcut_bars(table, guessing=0.7, ax=ax)
    assert ax.lines[-1].get_xdata()[0] == 70
    low, high = sorted(ax.collections[0].get_segments()[1][:, 0])
    assert (round(low), round(high)) == (50, 72)
