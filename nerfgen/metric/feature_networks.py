"""Pretrained networks of LPIPS, of FID, KID and IS, and of image features, and the weights of the first two: found or
downloaded, and verified."""

from __future__ import annotations

import functools
import hashlib
import http.client
import importlib.util
import os
import tempfile
import urllib.request
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.pretrained import (
    EMBEDDING_WEIGHTS,
    FeatureParameters,
    find_feature_weights,
    load_feature_network,
    perceptual_distance,
    pooled_features,
)

# Seconds without a response after which a download is aborted.
TIMEOUT = 10.0
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights.

    Attributes:
        name: file name in every folder.
        url: address of the download.
        sha256: first digits of its SHA-256; for PyTorch files, part of the name.
    """

    name: str
    url: str
    sha256: str


def find_weights(file: WeightsFile, folder: Path | None, cache: Path) -> Path:
    """The file in ``folder``, else in ``cache``, else downloaded into ``cache``; its SHA-256 is always verified.

    Raises:
        MissingDependencyError: the download fails, or the file differs from the published one.
    """
    for place in (folder, cache):
        if place is not None and (place / file.name).is_file():
            path = place / file.name
            try:
                with path.open("rb") as opened:
                    found = hashlib.file_digest(opened, "sha256").hexdigest()
            except OSError as error:
                raise MissingDependencyError(f"{path}: not readable ({error.strerror})") from error
            if not found.startswith(file.sha256):
                raise MissingDependencyError(
                    f"{path}: damaged or another file: its SHA-256 begins with {found[: len(file.sha256)]}, not "
                    f"{file.sha256}; delete it or copy it again"
                )
            return path
    try:
        return _download(file, cache)
    except (OSError, http.client.HTTPException) as error:
        raise MissingDependencyError(
            f"weights {file.name}: not found in {f'{folder} or ' if folder else ''}{cache}, and the download failed "
            f"({_reason(error)}); download {file.url} and set `weights` to its folder"
        ) from error


def _download(file: WeightsFile, folder: Path) -> Path:
    """The file, downloaded into ``folder``, where it appears only complete."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with urllib.request.urlopen(file.url, timeout=TIMEOUT) as answer:
        handle, partial = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=folder)
        try:
            with os.fdopen(handle, "wb") as written:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    written.write(chunk)
            if not digest.hexdigest().startswith(file.sha256):
                raise OSError(f"the SHA-256 of the download does not begin with {file.sha256}")
            os.replace(partial, folder / file.name)
        except BaseException:
            os.unlink(partial)
            raise
    return folder / file.name


def _reason(error: Exception) -> str:
    """A short cause in one line."""
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__


# AlexNet of torchvision; the linear layers of LPIPS ship with torchmetrics.
ALEXNET = WeightsFile(
    "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79"
)
# The Inception network of 2015-12-05 that published scores use, ported from TensorFlow.
INCEPTION = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d",
)
# Smallest image size, in pixels, for which AlexNet's last layers have an output.
MIN_PERCEPTUAL_SIZE = 31
_BATCH = 16


class Perceptual:
    """LPIPS with AlexNet.

    Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
    """

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Perceptual:
        """The network with its weights.

        Args:
            weights: folder that may contain the file :data:`ALEXNET`.

        Raises:
            MissingDependencyError: the extra ``metrics`` or the weights are unavailable.
        """
        try:
            import torch
            from torchmetrics.functional.image.lpips import _NoTrainLpips
        except (ImportError, OSError, RuntimeError) as error:
            raise _no_library("LPIPS", error) from error
        path = find_weights(ALEXNET, weights, _cache())
        # Random AlexNet weights: the library would otherwise download its own.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = _NoTrainLpips(net="alex", pnet_rand=True)
        state = _state(torch, path)
        for part in (
            network.net.slice1,
            network.net.slice2,
            network.net.slice3,
            network.net.slice4,
            network.net.slice5,
        ):
            part.load_state_dict({key: state[f"features.{key}"] for key in part.state_dict()})
        return cls(network)

    def distance(
        self,
        first: UInt8[np.ndarray, "n height width 3"] | Float[np.ndarray, "n height width 3"],
        second: UInt8[np.ndarray, "n height width 3"] | Float[np.ndarray, "n height width 3"],
    ) -> Float[np.ndarray, "n"]:
        """Distance of each pair of images, with values in [0, 1] or 8 bits; 0 for equal images.

        Raises:
            ValueError: the images have fewer than 31 x 31 pixels.
        """
        import torch

        if len(first) and min(first.shape[1:3]) < MIN_PERCEPTUAL_SIZE:
            raise ValueError(
                f"LPIPS needs images of at least {MIN_PERCEPTUAL_SIZE} x {MIN_PERCEPTUAL_SIZE} pixels, not "
                f"{first.shape[1:3]}"
            )
        found = [np.zeros(0, np.float32)]
        for chosen in _batches(len(first)):
            pair = [
                torch.from_numpy(np.ascontiguousarray(_unit_range(side[chosen]).transpose(0, 3, 1, 2)))
                for side in (first, second)
            ]
            with torch.inference_mode():
                found.append(self._network(*pair, normalize=True).numpy().reshape(-1))
        return np.concatenate(found).astype(np.float64)


class Inception:
    """The Inception network that defines FID, KID and IS."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Inception:
        """The network with its weights.

        Args:
            weights: folder that may contain the file :data:`INCEPTION`.

        Raises:
            MissingDependencyError: the extra ``metrics`` or the weights are unavailable.
        """
        try:
            import torch
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except (ImportError, OSError, RuntimeError) as error:
            raise _no_library("FID, KID and IS", error) from error
        path = find_weights(INCEPTION, weights, _cache())
        # The library would run code in the file; a file that can be read here has none.
        _state(torch, path)
        return cls(
            FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        )

    def features(
        self, images: UInt8[np.ndarray, "n height width 3"]
    ) -> tuple[Float[np.ndarray, "n 2048"], Float[np.ndarray, "n 1008"]]:
        """Features for FID and KID and class probabilities for IS, of images of any size."""
        import torch

        features, probabilities = [np.zeros((0, 2048), np.float32)], [np.zeros((0, 1008), np.float32)]
        for chosen in _batches(len(images)):
            batch = torch.from_numpy(np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2)))
            with torch.inference_mode():
                found, logits = self._network(batch)
                features.append(found.numpy())
                probabilities.append(torch.softmax(logits, dim=1).numpy())
        return np.concatenate(features), np.concatenate(probabilities)


# Size of the images from which features of sets are pooled, pixels: that of the network's training.
_POOLED_SIZE = 224


class ImageFeatures:
    """EfficientNet-Lite0, a network that is installed with its weights (:mod:`nerfgen.pretrained`).

    Results are independent of the device up to rounding: products are computed at full precision.
    """

    def __init__(self, parameters: FeatureParameters) -> None:
        self._parameters = parameters

    @classmethod
    def load(cls, weights: Path | None = None) -> ImageFeatures:
        """The network with its weights.

        Args:
            weights: folder that may contain the file :data:`nerfgen.pretrained.FEATURE_WEIGHTS`.

        Raises:
            MissingDependencyError: the extra ``perceptual`` is not installed, or its file is damaged.
        """
        return cls(load_feature_network(weights).parameters)

    def distance(
        self,
        first: UInt8[np.ndarray, "n height width 3"] | Float[np.ndarray, "n height width 3"],
        second: UInt8[np.ndarray, "n height width 3"] | Float[np.ndarray, "n height width 3"],
        where: Bool[np.ndarray, "n height width"] | None = None,
    ) -> Float[np.ndarray, "n"]:
        """:func:`nerfgen.pretrained.perceptual_distance` of each pair of images; 0 to 255 or [0, 1].

        Args:
            where: pixels that are compared, all by default; the others are made equal. NaN for an image without any.

        Raises:
            ValueError: the images are smaller than 16 pixels.
        """
        where = np.ones(first.shape[:3], bool) if where is None else where
        found = [np.zeros(0)]
        for chosen in _batches(len(first)):
            inside = where[chosen]
            one, other = _unit_range(first[chosen]), _unit_range(second[chosen])
            other = np.where(inside[..., None], other, one)
            distances = _full_batch(
                _weighted_distances, self._parameters, one, other, inside.astype(np.float32)
            )
            found.append(np.where(inside.any((1, 2)), distances, np.nan))
        return np.concatenate(found)

    def pooled(self, images: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n 112"]:
        """:func:`nerfgen.pretrained.pooled_features` of images, resized to the size of the network's training.

        There are 112 features of the fifth stage, not the 320 or 1280 of later ones: the covariance of a few hundred
        images has full rank, and sampling noise does not dominate the Fréchet distance. Between two sets of 200 faces
        of 64 pixels it is 16, and 108 when one is blurred by a pixel; of 320 features these are 97 and 168.
        """
        found = [np.zeros((0, 112), np.float32)]
        for chosen in _batches(len(images)):
            found.append(_full_batch(_pooled_resized, self._parameters, _unit_range(images[chosen])))
        return np.concatenate(found)


def _full_batch(
    function: Callable[..., Any], parameters: FeatureParameters, *arrays: np.ndarray
) -> np.ndarray:
    """The function of a batch that is filled up with zeros: one program serves all numbers of images."""
    import jax

    count = len(arrays[0])
    filled = [
        np.concatenate([each, np.zeros((_BATCH - count, *each.shape[1:]), each.dtype)]) for each in arrays
    ]
    with jax.default_matmul_precision("highest"):
        return np.asarray(_compiled(function)(parameters, *filled))[:count]


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    return jax.jit(function)


def _weighted_distances(parameters: FeatureParameters, first: Any, second: Any, weight: Any) -> Any:
    return perceptual_distance(parameters, first, second, weight)


def _pooled_resized(parameters: FeatureParameters, images: Any) -> Any:
    import jax

    size = (len(images), _POOLED_SIZE, _POOLED_SIZE, 3)
    return pooled_features(parameters, jax.image.resize(images, size, "linear", antialias=True))


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))


def _unit_range(
    images: UInt8[np.ndarray, "n height width 3"] | Float[np.ndarray, "n height width 3"],
) -> Float[np.ndarray, "n height width 3"]:
    if images.dtype == np.uint8:
        return images.astype(np.float32) / 255
    return np.clip(images, 0.0, 1.0).astype(np.float32)


def available_networks(names: Collection[str], weights: Path | None = None) -> list[str]:
    """Which of the networks ``lpips``, ``inception``, ``features`` and ``identity`` have their packages and weights,
    without loading them.

    Weights of the first two are downloaded where they are absent, as :meth:`Perceptual.load` and
    :meth:`Inception.load` do.

    Args:
        weights: folder that may contain the weights.
    """
    networks = {
        "lpips": (("torch", "torchmetrics"), ALEXNET),
        "inception": (("torch", "torch_fidelity"), INCEPTION),
    }
    packaged = {"features": find_feature_weights, "identity": EMBEDDING_WEIGHTS.find}
    return [
        name
        for name in sorted(names)
        if (
            _is_found(packaged[name], weights)
            if name in packaged
            else _is_available(*networks[name], weights)
        )
    ]


def _is_found(find: Callable[[Path | None], Path], weights: Path | None) -> bool:
    try:
        find(weights)
    except MissingDependencyError:
        return False
    return True


def _is_available(packages: tuple[str, ...], file: WeightsFile, weights: Path | None) -> bool:
    if not all(importlib.util.find_spec(package) for package in packages):
        return False
    try:
        find_weights(file, weights, _cache())
    except MissingDependencyError:
        return False
    return True


def _cache() -> Path:
    """``torch.hub.get_dir()/checkpoints``, without importing torch."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser() / "hub" / "checkpoints"


def _state(torch: Any, path: Path) -> dict[str, object]:
    """The arrays of a file of weights; code in the file is not run."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _no_library(metrics: str, error: Exception) -> MissingDependencyError:
    if isinstance(error, ModuleNotFoundError):
        cause = f"the package {error.name} is not installed"
    else:
        cause = " ".join(str(error).split())[:200]
    return MissingDependencyError(f"{metrics}: {cause}; pip install 'nerfgen[metrics]'")
