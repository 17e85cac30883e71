"""Scores by pretrained networks: LPIPS, and the Inception features of FID, KID and IS (the extra ``metrics``).

The networks are those of torchmetrics and torch-fidelity. Their weights are files of fixed names, looked for in a
folder if one is given, else in torch's own cache, where they are downloaded to. A file whose digest is not that of its
name is not used.
"""

from __future__ import annotations

import hashlib
import importlib
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import MissingDependencyError

# The hexadecimal digits at the end of the names are the first ones of the files' SHA-256.
ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET}"
_INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"
_TOGETHER = 32
_SECONDS = 10.0


class Perceptual:
    """LPIPS (Zhang et al. 2018) with AlexNet."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Perceptual:
        """The network, with its weights from ``weights`` or from torch's cache, or downloaded.

        Raises:
            MissingDependencyError: a package or the weights can't be had; it says how to add them.
        """
        torch, module = _package("torch"), _package("torchmetrics.image.lpip")
        file = _weights(torch, ALEXNET, _ALEXNET_URL, weights)
        usual = torch.hub.get_dir()
        with tempfile.TemporaryDirectory(prefix="nerfgen-") as folder:
            # torchvision reads its weights from torch's cache alone: for a moment, that is a folder with this file.
            (Path(folder) / "checkpoints").mkdir()
            (Path(folder) / "checkpoints" / ALEXNET).symlink_to(file.resolve())
            torch.hub.set_dir(folder)
            try:
                network = module.LearnedPerceptualImagePatchSimilarity(
                    "alex", reduction="none", normalize=True
                )
            finally:
                torch.hub.set_dir(usual)
        return cls(network)

    def distances(
        self,
        first: UInt8[np.ndarray, "pictures size size 3"],
        second: UInt8[np.ndarray, "pictures size size 3"],
    ) -> Float[np.ndarray, "pictures"]:
        """Distance of each pair; pictures below 64 pixels, too small for the network, are enlarged to that."""
        torch = _package("torch")
        found = []
        with torch.inference_mode():
            for pair in zip(first, second, strict=True):
                # The mean over one pair is its own distance.
                self._network.reset()
                self._network.update(*(_tensor(torch, picture[None], least=64) / 255 for picture in pair))
                found.append(float(self._network.compute()))
        return np.array(found)


class Inception:
    """Inception v3 as FID is defined by: TensorFlow's network of 2015-12-05, its last features and logits."""

    def __init__(self, network: Any) -> None:
        self._network = network

    @classmethod
    def load(cls, weights: Path | None = None) -> Inception:
        """The network, with its weights from ``weights`` or from torch's cache, or downloaded.

        Raises:
            MissingDependencyError: a package or the weights can't be had; it says how to add them.
        """
        torch = _package("torch")
        module = _package("torch_fidelity.feature_extractor_inceptionv3")
        file = _weights(torch, INCEPTION, _INCEPTION_URL, weights)
        network = module.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file)
        )
        return cls(network.eval())

    def features(
        self, pictures: UInt8[np.ndarray, "pictures size size 3"]
    ) -> tuple[Float[np.ndarray, "pictures 2048"], Float[np.ndarray, "pictures 1008"]]:
        """Features and logits of pictures of any size: the network resizes them itself."""
        torch = _package("torch")
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _TOGETHER):
                parts.append(self._network(_tensor(torch, pictures[start : start + _TOGETHER])))
        features, logits = (
            np.concatenate([part.numpy() for part in side]) for side in zip(*parts, strict=True)
        )
        return features, logits


def _tensor(torch: Any, pictures: UInt8[np.ndarray, "pictures size size 3"], least: int = 0) -> Any:
    """Pictures as torch has them, channels first, and no smaller than ``least`` pixels."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    if pictures.shape[1] < least:
        tensor = torch.nn.functional.interpolate(tensor.float(), size=(least, least), mode="bilinear")
    return tensor


def _package(name: str) -> Any:
    """A package of the extra.

    Raises:
        MissingDependencyError: it is not installed, or does not work.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{name.partition('.')[0]} can't be imported ({str(error).splitlines()[0]}); add it with "
            "`pip install 'nerfgen[metrics]'`"
        ) from error


def _weights(torch: Any, name: str, url: str, folder: Path | None) -> Path:
    """A file of weights that has been checked.

    Raises:
        MissingDependencyError: it is not there and can't be downloaded, or its digest is wrong.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    file = folder / name if folder else cached
    if not file.is_file():
        if folder:
            raise MissingDependencyError(
                f"{folder} holds no {name}; put it there, or leave out --weights to download it"
            )
        file = _downloaded(torch, name, url, cached)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if not digest.startswith(file.stem.rpartition("-")[2]):
        raise MissingDependencyError(
            f"{file} is damaged or another file (SHA-256 {digest[:8]}...); remove it"
        )
    return file


def _downloaded(torch: Any, name: str, url: str, cached: Path) -> Path:
    """The file, downloaded into torch's cache.

    Raises:
        MissingDependencyError: it can't be, or what came has another digest.
    """
    usual = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        digits = cached.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=digits, progress=False)
    except (OSError, RuntimeError) as error:  # no network, a full disk; a wrong digest
        raise MissingDependencyError(
            f"{name} can't be downloaded ({error}); get it from {url}, put it into a folder and give --weights FOLDER"
        ) from error
    finally:
        socket.setdefaulttimeout(usual)
    return cached
