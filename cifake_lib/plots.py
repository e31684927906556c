"""Figures of training and evaluation: take data, return Axes or a Figure, never call `show`.

Every model and every class has one colour everywhere, from the colour-blind safe palette of
Okabe & Ito 2008 ("Color universal design").
"""

MODEL_COLOURS = {
    "baseline_cnn": "#E69F00",
    "tuned_cnn": "#56B4E9",
    "resnet50": "#009E73",
    "ensemble": "#000000",
}
CLASS_COLOURS = {"REAL": "#0072B2", "FAKE": "#D55E00"}

_DISPLAY_NAMES = {
    "baseline_cnn": "Baseline CNN",
    "tuned_cnn": "Tuned CNN",
    "resnet50": "ResNet-50",
    "ensemble": "Ensemble",
}


def display_name(key: str) -> str:
    """Return the name of a model as people read it: `"resnet50"` → `"ResNet-50"`."""
    return _DISPLAY_NAMES.get(key, key.replace("_", " ").capitalize())
