"""What people read for the keys of models, metrics and corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifake_lib.runs import Run

_DISPLAY_NAMES = {
    "baseline_cnn": "Baseline CNN",
    "balanced": "p_fake .5",
    "best_f1": "Best F1",
    "images_mixed": "Images dealt out one by one",
    "sources_left_out": "Whole sources left out",
    "own_model": "Your model",
    "photo_resnet50": "ResNet-50 for photographs",
    "cifake_models_shrunk": "Models of CIFAKE, shrunk",
    "cifake_models_patches": "Models of CIFAKE, patches",
    "tpr_5": "Found at 5 % false alarms",
    "tpr_1": "Found at 1 % false alarms",
    "jpeg_60": "JPEG 60",
    "resize_half": "Half size and back",
    "fpr_1": "1 % false alarms",
    "fpr_5": "5 % false alarms",
    "resnet50": "ResNet-50",
    "tuned_cnn": "Tuned CNN",
    "f1": "F1 (mean of classes)",
    "pr_auc": "Average precision",
    "roc_auc": "ROC AUC",
    "true_negative_rate": "True-negative rate",
    "true_positive_rate": "True-positive rate",
    "val_accuracy": "Validation accuracy",
    "val_loss": "Validation loss",
    "val_log_loss": "Validation log loss",
    "sgd_learning_rate": "SGD learning rate",
    "jpeg": "JPEG",
    "resize_jpeg": "Resize and JPEG",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    **{
        f"{metric}_{name.lower()}": f"{metric.capitalize()} of {name}"
        for metric in ("precision", "recall", "f1")
        for name in ("REAL", "FAKE")
    },
}


def display_name(key: str) -> str:
    """Return what people read for the key of a model, metric or corruption: `"ResNet-50"`."""
    return _DISPLAY_NAMES.get(key, key.replace("_", " ").capitalize())


def name_after_runs(found: Mapping[str, Run]) -> None:
    """Let the keys of models stand for the networks that runs hold, in all that is drawn from now.

    A stage is a place in the suite, and may hold another network than the one it is named after.

    Args:
        found: Stage → run.
    """
    for stage, run in found.items():
        facts = run.manifest["model"]
        if facts["builder"] != stage:
            _DISPLAY_NAMES[stage] = facts["display_name"]


def in_percent(share: float, digits: int = 1) -> str:
    """Return what people read for a share: `"97.3 %"`."""
    return f"{share:.{digits}%}".replace("%", " %")


def interval_in_percent(low: float, high: float, digits: int = 1) -> str:
    """Return what people read for an interval of shares: `"96.8–97.7 %"`."""
    return f"{100 * low:.{digits}f}–{in_percent(high, digits)}"
