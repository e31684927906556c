"""The trained models as one object: images in, verdicts out."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cifake_lib import engine
from cifake_lib import runs as run_folders
from cifake_lib.calibration import ensemble_logit, probability
from cifake_lib.crops import images_together
from cifake_lib.images import fit_image
from cifake_lib.views import photo_views

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


class ModelsMissing(RuntimeError):
    """There is no trained model to ask; the text says how to get one."""


class ModelsDamaged(ModelsMissing):
    """There are trained models, but none can be loaded; the text says what is wrong with each."""


@dataclass(frozen=True)
class ModelVerdict:
    """What one model says about one image.

    Attributes:
        p_fake: Calibrated probability that the image is generated, 0–1.
    """

    p_fake: float

    @property
    def label(self) -> str:
        """The likelier class, "REAL" or "FAKE"."""
        return "FAKE" if self.p_fake >= 0.5 else "REAL"

    @property
    def confidence(self) -> float:
        """Probability of `label`, 0.5–1."""
        return max(self.p_fake, 1 - self.p_fake)


@dataclass(frozen=True)
class Verdict(ModelVerdict):
    """What the models say together about one image.

    Attributes:
        p_fake: Probability of the ensemble, 0–1.
        models: Verdict of each model by key.
    """

    models: dict[str, ModelVerdict]


@dataclass(frozen=True)
class Detector:
    """Trained models that answer together.

    Attributes:
        models: Networks by key, in the order they were asked for: in the light engine where it is
            installed and the run has a file for it, else in Keras.
        runs: The run folder of each model, by the same keys.
        missing: For each model that could not be loaded, a sentence that says why.
        ensemble_weights: Of each model in the mean of their calibrated logits, by key; empty, that
            is all alike, where no evaluation has fitted them for just these models.
        ensemble_temperature: Of that mean; 1 where it is not fitted either.
    """

    models: dict[str, engine.Network | keras.Model]
    runs: dict[str, run_folders.Run]
    missing: dict[str, str]
    ensemble_weights: dict[str, float] = field(default_factory=dict)
    ensemble_temperature: float = 1.0

    @classmethod
    def load(
        cls,
        *,
        runs: str = "released",
        keys: Sequence[str] = (),
        light: bool = True,
    ) -> Detector:
        """Load whatever trained models there are.

        Args:
            runs: "released" for the models that come with the project, "latest" for those
                trained last on this machine, "own" for the one that notebook 07 trained last.
            keys: The models to look for; all of them if empty.
            light: Prefer the light engine, which starts at once and needs a third of the memory;
                Keras takes seconds to start and judges hundreds of images twice as fast.

        Returns:
            A detector with at least one model; those it lacks are named in `missing`.

        Raises:
            ModelsMissing: There is no model.
            ModelsDamaged: There are models, and none of them could be loaded.
        """
        if runs not in run_folders.MODEL_SETS:
            raise ValueError(
                f"expected runs out of {list(run_folders.MODEL_SETS)}, received {runs!r}"
            )
        models, found, missing, damaged = {}, {}, {}, []
        for key in keys or run_folders.MODEL_SETS[runs]:
            try:
                found[key] = run_folders.find_run(key, released=runs == "released")
                models[key] = _load(found[key], light=light)
            except run_folders.RunNotFound as error:
                logger.warning("%s is not available: %s", key, error)
                missing[key] = str(error)
            except run_folders.RunDamaged as error:
                logger.warning("%s is not available: %s", key, error)
                missing[key] = str(error)
                damaged.append(key)
            except Exception:
                # One unreadable run (a broken manifest, weights of another version) must not
                # silence the other models.
                logger.exception("%s cannot be loaded", key)
                missing[key] = f"The run of {key} cannot be loaded; run that stage again."
                damaged.append(key)
        if not models and damaged:
            raise ModelsDamaged(" ".join(missing[key] for key in damaged))
        if not models:
            raise ModelsMissing(
                "There is no trained model yet. `make pipeline` trains all of them on the "
                "included sample in a few minutes. " + " ".join(dict.fromkeys(missing.values()))
            )
        loaded = {key: found[key] for key in models}
        fitted = _fitted_ensemble(loaded, released=runs == "released")
        return cls(models, loaded, missing, *fitted)

    @property
    def input_size(self) -> int:
        """The largest side in pixels that a model looks at."""
        return self._largest[0]

    @property
    def sees_photographs(self) -> bool:
        """Whether these are models of photographs, which look at several views of each."""
        return any(run.photo_views for run in self.runs.values())

    @property
    def crop(self) -> str:
        """How pictures become squares for the model that looks at the largest."""
        return self._largest[1]

    @property
    def _largest(self) -> tuple[int, str]:
        return max((run.input_contract for run in self.runs.values()), key=lambda kind: kind[0])

    def predict(
        self, images: Sequence[Image.Image | np.ndarray], *, several_views: bool = True
    ) -> list[Verdict]:
        """Judge images of any size.

        Every model sees each image as in its training, through `fit_image`, or several views of it
        (see `views.photo_views`) whose logits it averages, and applies its own temperature; the
        ensemble is the sigmoid of the weighted mean of the calibrated logits, divided by a
        temperature of its own, with 0.5 as its threshold.

        Args:
            images: RGB images, or uint8 arrays of shape `(height, width, 3)`, 0–255.
            several_views: Whether a model of photographs gets them; else one, as the others.

        Returns:
            One verdict per image, in order.
        """
        if len(images) == 0:
            return []
        fit = lru_cache(partial(_fitted, images))  # Shrinking a photograph takes its time.
        kinds = {
            key: (*run.input_contract, run.photo_views and several_views)
            for key, run in self.runs.items()
        }
        logits = np.stack([self._logits(key, *fit(*kinds[key])) for key in self.models])
        p_fake = probability(logits)
        weights = [self.ensemble_weights.get(key, 1.0) for key in self.models]
        together = probability(ensemble_logit(logits, weights), self.ensemble_temperature)
        return [
            Verdict(
                p_fake=float(together[index]),
                models={
                    key: ModelVerdict(float(p_fake[row, index]))
                    for row, key in enumerate(self.models)
                },
            )
            for index in range(len(images))
        ]

    def _logits(self, key: str, images: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Calibrated logits of one model, float64 `(pictures,)`, of so many views of each."""
        count = images_together(images.shape[1])
        logits = [
            np.asarray(self.models[key].predict_on_batch(images[start : start + count]))
            for start in range(0, len(images), count)
        ]
        temperature = self.runs[key].manifest["temperature"]
        each = np.concatenate(logits).ravel().astype(np.float64) / temperature
        return np.add.reduceat(each, np.cumsum(counts) - counts) / counts


def _fitted(
    images: Sequence[Image.Image | np.ndarray], size: int, crop: str, several: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a model looks at, and how many views of each picture that is."""
    pictures = (
        image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images
    )
    views = [
        photo_views(picture, size) if several else fit_image(picture, size, crop)[None]
        for picture in pictures
    ]
    return np.concatenate(views), np.array([len(each) for each in views])


def _load(run: run_folders.Run, *, light: bool) -> engine.Network | keras.Model:
    installed = light and importlib.util.find_spec("ai_edge_litert")
    if installed and engine.FILE in run.manifest["files"]:
        return engine.Network(run)
    return run_folders.load_model(run)


def _fitted_ensemble(
    loaded: dict[str, run_folders.Run], *, released: bool
) -> tuple[dict[str, float], float]:
    """Return weights and temperature of an evaluation of just these models, or none and 1."""
    try:
        evaluation = run_folders.find_run("evaluation", released=released)
    except run_folders.RunNotFound:
        return {}, 1.0
    except (OSError, ValueError):
        logger.exception("no weights of the ensemble: the manifest of evaluation cannot be read")
        return {}, 1.0
    ensemble = evaluation.manifest.get("ensemble")
    if ensemble and evaluation.measured(*loaded.values()):
        return ensemble["weights"], ensemble["temperature"]
    return {}, 1.0
