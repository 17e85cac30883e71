"""Scores by pretrained networks: LPIPS, and the Inception features of FID, KID and IS.

They need the extra ``nerfgen[metrics]`` (PyTorch, which nothing here loads before it is asked for) and weights that
come from a folder, PyTorch's cache or a download: :func:`nerfgen.metric.weights.find_weights`. Computed on the CPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import MissingDependencyError
from nerfgen.metric.weights import WeightsFile, find_weights

# AlexNet as torchvision has it; LPIPS' own layers on top of it come with the library.
ALEXNET = WeightsFile(
    "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "7be5be79"
)
# The Inception network of 2015-12-05 that published scores are by, ported from TensorFlow.
INCEPTION = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d",
)
# Edge in pixels below which AlexNet's last layers see nothing.
SMALLEST_PICTURE = 31
_BATCH = 16


class Perceptual:
    """LPIPS, AlexNet: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Perceptual:
        """Ready for use.

        Args:
            weights: folder that may hold the file of :data:`ALEXNET`.

        Raises:
            MissingDependencyError: the extra or the weights can't be had.
        """
        try:
            import torch
            from torchmetrics.functional.image.lpips import _NoTrainLpips
        except (ImportError, OSError, RuntimeError) as error:
            raise _no_library("LPIPS", error) from error
        path = find_weights(ALEXNET, weights, _cache(torch))
        # Without weights of AlexNet, which it would otherwise download itself.
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
        """Of each pair of pictures, with values in [0, 1] or of 8 bits; 0 for equal ones.

        Raises:
            ValueError: they have fewer than 31 x 31 pixels.
        """
        import torch

        if len(first) and min(first.shape[1:3]) < SMALLEST_PICTURE:
            raise ValueError(
                f"LPIPS needs pictures of {SMALLEST_PICTURE} x {SMALLEST_PICTURE} pixels or more"
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
    """The Inception network by which FID, KID and IS are defined."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Inception:
        """Ready for use.

        Args:
            weights: folder that may hold the file of :data:`INCEPTION`.

        Raises:
            MissingDependencyError: the extra or the weights can't be had.
        """
        try:
            import torch
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except (ImportError, OSError, RuntimeError) as error:
            raise _no_library("FID, KID and IS", error) from error
        path = find_weights(INCEPTION, weights, _cache(torch))
        # The library would run code that a file holds; what can be read here holds none.
        _state(torch, path)
        return cls(
            FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        )

    def features(
        self, pictures: UInt8[np.ndarray, "n height width 3"]
    ) -> tuple[Float[np.ndarray, "n 2048"], Float[np.ndarray, "n 1008"]]:
        """Features of FID and KID, and the probabilities of classes of IS, of pictures of any size."""
        import torch

        features, probabilities = [np.zeros((0, 2048), np.float32)], [np.zeros((0, 1008), np.float32)]
        for chosen in _batches(len(pictures)):
            batch = torch.from_numpy(np.ascontiguousarray(pictures[chosen].transpose(0, 3, 1, 2)))
            with torch.inference_mode():
                found, logits = self._network(batch)
                features.append(found.numpy())
                probabilities.append(torch.softmax(logits, dim=1).numpy())
        return np.concatenate(features), np.concatenate(probabilities)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))


def _unit_range(pictures: np.ndarray) -> Float[np.ndarray, "n height width 3"]:
    if pictures.dtype == np.uint8:
        return pictures.astype(np.float32) / 255
    return np.clip(pictures, 0.0, 1.0).astype(np.float32)


def _cache(torch: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _state(torch: Any, path: Path) -> dict[str, Any]:
    """The arrays of a file of weights, which is not let run code."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _no_library(what: str, error: Exception) -> MissingDependencyError:
    if isinstance(error, ModuleNotFoundError):
        cause = f"the package {error.name} is not installed"
    else:
        cause = " ".join(str(error).split())[:200]
    return MissingDependencyError(f"{what}: {cause}; pip install 'nerfgen[metrics]'")
