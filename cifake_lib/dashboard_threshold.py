"""The dashboard's controls for how strict a verdict is, and how common fakes are."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from cifake_lib import decisions, frequencies
from cifake_lib.analyst import Analyst
from cifake_lib.dashboard_slider import step_slider

PREVALENCES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
AS_IN_THE_TEST = 0.5


class ThresholdPanel:
    """Choose a measured operating point and how common fakes are; see what an alarm is worth.

    Attributes:
        view: The widget to display; empty where nothing was measured with these models.
    """

    def __init__(self, on_change: Callable[[], None]):
        """Build the panel.

        Args:
            on_change: Called when the visitor has chosen anything.
        """
        self._points: dict[str, decisions.OperatingPoint] = {}
        self._on_change = on_change
        self._choice = widgets.Dropdown(description="Threshold", tooltip="")
        self._prevalence = step_slider(
            "Fakes",
            [f"{share * 100:g} %" for share in PREVALENCES],
            value=PREVALENCES.index(AS_IN_THE_TEST),
        )
        self._said = widgets.HTML()
        self.view = widgets.VBox([])
        self.view.add_class("cf-threshold")
        for widget in (self._choice, self._prevalence):
            widget.observe(lambda _: self._changed(), "value")

    def show(self, analyst: Analyst | None) -> None:
        """Offer what was measured with the models of an analyst."""
        self._points = analyst.points.points if analyst and analyst.points else {}
        self.view.children = []  # Hidden, its changes are not taken for the visitor's.
        self._choice.options = [(point.title, key) for key, point in self._points.items()]
        self._choice.value = next(iter(self._points), None)
        heading = widgets.HTML("<h2>How strict, and how common are fakes?</h2>")
        shown = [heading, self._choice, self._prevalence, self._said] if self._points else []
        self.view.children = shown
        self._say()

    def say_of(self, analyst: Analyst) -> None:
        """Say what the chosen point came to with other models; the choice stays."""
        if analyst.points and analyst.points.points.keys() == self._points.keys():
            self._points = analyst.points.points
            self._say()

    @property
    def threshold(self) -> str:
        """Key of the operating point."""
        return self._choice.value or "balanced"

    def shifted(self, p_fake: float) -> str:
        """Say what a score means at the chosen share of fakes; "" for that of the test."""
        share = PREVALENCES[self._prevalence.value]
        if not self._points or share == AS_IN_THE_TEST:
            return ""
        p_there = frequencies.fake_at_prevalence(p_fake, share)
        digits = 0 if 0.005 < p_there < 0.995 else 2
        return (
            f"Where {share * 100:g} % of the images are fake, its probability is "
            f"{100 * p_there:.{digits}f} %."
        )

    def _changed(self) -> None:
        if self.view.children:
            self._say()
            self._on_change()

    def _say(self) -> None:
        if (point := self._points.get(self._choice.value)) is None:
            self._said.value = ""
            return
        share = PREVALENCES[self._prevalence.value]
        worth = point.probability_fake_if_flagged(share)
        self._said.value = (
            f'<p class="cf-note" role="status">{escape(point.sentence)} Where '
            f"{share * 100:g} % of the images are fake, an image called FAKE is fake in "
            f"{100 * worth:.0f} % of cases.</p>"
        )
