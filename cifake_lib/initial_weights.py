"""Weights that a network starts from: ImageNet's, a file's, or those of a released ResNet-50."""

import re
import warnings
from collections import Counter
from pathlib import Path

from cifake_lib import paths, runs
from cifake_lib.backbones import BACKBONES, backbone_name
from cifake_lib.framework import keras

_RELEASED = {"released": "resnet50", runs.PHOTO_MODEL: runs.PHOTO_MODEL}  # source → stage
# What learns the task, and is never taken over.
_HEAD = re.compile(r"head_.*|logit")
_UNNAMED = re.compile(r"(conv2d|batch_normalization|layer_normalization|normalization)(?:_\d+)?")


class InitialWeightsError(RuntimeError):
    """Initial weights could not be downloaded or do not fit; the message says what to do."""


def load_initial_weights(model: keras.Model, source: str = "imagenet") -> list[str]:
    """Copy weights into the layers of a model that have the same name and shape.

    Args:
        model: Made by `models.build_model`; changed in place.
        source: `imagenet` (downloaded by Keras); `released`, the ResNet-50 that comes with the
            project; `photo_resnet50`, that of photographs; a `.weights.h5` file of the same network
            of `keras.applications`, whole without top (of ResNet-50 also up to
            `conv4_block6_out`); or `none`.

    Returns:
        Names of the layers that received weights, empty for `none`. The head is never among them.

    Raises:
        InitialWeightsError: The download failed, the file is missing, or nothing fits.
    """
    if source == "none":
        return []
    key = model.name if model.name in BACKBONES else "resnet50"
    if source == "imagenet":
        donor = _from_imagenet(key)
    elif source in _RELEASED:
        donor = _released(key, _RELEASED[source])
    else:
        donor = _from_file(paths.resolve(source), key)
    given = _by_name(donor)
    copied = []
    for name, target in _by_name(model).items():
        # A donor of stages 1–4 has no conv5 layers to give.
        if name not in given:
            continue
        weights = given[name].get_weights()
        if name == "conv1_conv" and target.kernel.shape[0] < weights[0].shape[0]:
            weights = _centre_of_kernel(*weights)
        target.set_weights(weights)
        copied.append(target.name)
    if not copied:
        raise InitialWeightsError(
            f"Expected initial_weights of a network like {model.name}, received {source!r}, whose "
            "layers have other names: set it to 'none'."
        )
    return copied


def _by_name(model: keras.Model) -> dict[str, keras.Layer]:
    """List the layers with weights below the head.

    Keras counts layers without a name of their own through the whole process (`conv2d_94`): these
    are counted anew within the model.
    """
    found, counted = {}, Counter()
    for layer in model.layers:
        if not layer.weights or _HEAD.fullmatch(layer.name):
            continue
        name = layer.name
        if unnamed := _UNNAMED.fullmatch(name):
            name = f"{unnamed[1]}_{counted[unnamed[1]]}"
            counted[unnamed[1]] += 1
        found[name] = layer
    return found


def _centre_of_kernel(kernel, bias):
    centre = kernel[2:5, 2:5]
    # Keep each filter's energy, so that the pretrained batch norm after it still fits.
    norm = lambda k: (k**2).sum(axis=(0, 1, 2), keepdims=True) ** 0.5  # noqa: E731
    return [centre * norm(kernel) / norm(centre), bias]


def _from_imagenet(key: str) -> keras.Model:
    try:
        return getattr(keras.applications, BACKBONES[key])(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception for every network failure.
        name = backbone_name(key)
        raise InitialWeightsError(
            f"The ImageNet weights of {name} could not be downloaded ({error}). Connect to the "
            f"internet, or set initial_weights to the path of a {name} .weights.h5 file, or to "
            "'none' to train from random weights."
        ) from error


def _released(key: str, stage: str) -> keras.Model:
    if key != "resnet50":
        raise InitialWeightsError(
            f"The released ResNet-50 has no weights for {backbone_name(key)}: set initial_weights "
            "to 'imagenet', a .weights.h5 file or 'none', or train a ResNet-50."
        )
    run = runs.find_run(stage, released=True)
    facts = run.manifest["model"]
    return runs.rebuild(facts["builder"], facts["arguments"], run.checked(runs.WEIGHTS))


def _from_file(path: Path, key: str) -> keras.Model:
    if not path.is_file():
        raise InitialWeightsError(
            f"Expected a .weights.h5 file as initial_weights, received {path}"
        )
    whole = getattr(keras.applications, BACKBONES[key])(include_top=False, weights=None)
    candidates, name = [whole], backbone_name(key)
    refusal = f"{path} does not fit the whole {name} without top"
    if key == "resnet50":
        # The whole first: a part of it would load from the file of the whole without complaint.
        part = keras.Model(whole.input, whole.get_layer("conv4_block6_out").output)
        candidates.append(part)
        refusal = f"{path} fits neither the whole {name} without top nor its stages 1–4"
    errors = []
    for candidate in candidates:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # One of the two candidates never fits.
                candidate.load_weights(path)
            return candidate
        except (ValueError, OSError, KeyError) as error:
            errors.append(str(error).splitlines()[0])
    raise InitialWeightsError(f"{refusal}: {errors}")
