"""The dashboard's built-in examples: real and generated test images as buttons."""

from __future__ import annotations

import logging
from collections.abc import Callable

import ipywidgets as widgets
import numpy as np
from PIL import Image

from cifake_lib.dashboard_cards import data_uri
from cifake_lib.runs import Run, RunDamaged

PER_CLASS = 8
QUIZ_PER_CLASS = 40  # for four games

logger = logging.getLogger(__name__)


def read_examples(
    evaluation: Run | None, *, after: int = 0, per_class: int = PER_CLASS
) -> list[tuple[Image.Image, str]]:
    """Take test images from the run that compared the models.

    Args:
        evaluation: A run of the evaluation stage, or None.
        after: How many of each class to leave out, as shown elsewhere with their class.
        per_class: How many of each class to take.

    Returns:
        RGB images with their true class, real ones first; empty without a sound run.
    """
    if evaluation is None:
        return []
    try:
        path = evaluation.checked("examples.npz")
    except RunDamaged as error:
        logger.warning("no examples: %s", error)
        return []
    with np.load(path, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    return [
        (Image.fromarray(images[row]), name)
        for label, name in enumerate(("REAL", "FAKE"))
        for row in np.flatnonzero(labels == label)[after : after + per_class]
    ]


def quiz_images(evaluation: Run | None) -> list[tuple[Image.Image, str]]:
    """Take test images that the page shows nowhere with their class; if there are none, others."""
    images = read_examples(evaluation, after=PER_CLASS, per_class=QUIZ_PER_CLASS)
    return images or read_examples(evaluation)


def gallery(
    examples: list[tuple[Image.Image, str]], on_choice: Callable[[int], None]
) -> list[widgets.Widget]:
    """Lay the examples out as buttons.

    Args:
        examples: As `read_examples` returns them.
        on_choice: Called with the index of the example that a visitor clicked.

    Returns:
        A heading and a row of buttons for each class.
    """
    # Buttons cannot hold a picture, so a style rule gives each its background.
    rules = "".join(
        f".cf-example-{index}{{background-image:url({data_uri(image)})}}"
        for index, (image, _) in enumerate(examples)
    )
    parts = [widgets.HTML(f"<style>{rules}</style>")]
    for label, heading in (("REAL", "photographs"), ("FAKE", "generated images")):
        buttons = []
        for index, (_, truth) in enumerate(examples):
            if truth == label:
                button = widgets.Button(tooltip=f"Example {index + 1} ({label})")
                button.add_class("cf-example").add_class(f"cf-example-{index}")
                button.on_click(lambda _, index=index: on_choice(index))
                buttons.append(button)
        if buttons:
            row = widgets.HBox(buttons)
            row.add_class("cf-examples")
            parts += [widgets.HTML(f"<h2>Or try {heading}</h2>"), row]
    return parts
