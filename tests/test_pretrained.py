"""Metrics of pretrained networks: messages without their packages or weights, and agreement with the libraries.

The numbers are by random weights in the files that the libraries read; these tests are skipped without the extra
``nerfgen[metrics]``.
"""

from __future__ import annotations

import hashlib
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nerfgen.errors import MissingDependencyError
from nerfgen.metric import Inception, Perceptual, frechet_distance, inception_score, kernel_distance
from nerfgen.metric import feature_networks as pretrained_module
from nerfgen.metric import feature_networks as weights_module
from nerfgen.metric.feature_networks import WeightsFile, find_weights

CONTENT = b"weights" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def offered(tmp_path: Path) -> WeightsFile:
    """A file of weights on a server."""
    server = tmp_path / "server"
    server.mkdir()
    (server / "net.pth").write_bytes(CONTENT)
    return WeightsFile("net.pth", (server / "net.pth").as_uri(), SHA)


@pytest.mark.parametrize("network", [Perceptual, Inception])
def test_without_torch_the_extra_is_named(network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingDependencyError, match=r"torch is not installed; pip install 'nerfgen\[metrics\]'"
    ) as told:
        network.load()
    assert "\n" not in str(told.value)


def test_weights_come_from_the_folder_then_the_cache_then_a_download(
    tmp_path: Path, offered: WeightsFile
) -> None:
    folder, cache = tmp_path / "folder", tmp_path / "home" / "cache"
    assert find_weights(offered, folder, cache) == cache / "net.pth"
    assert [p.name for p in cache.iterdir()] == ["net.pth"]
    gone = replace(offered, url=offered.url + ".gone")
    assert find_weights(gone, None, cache) == cache / "net.pth"
    folder.mkdir()
    (folder / "net.pth").write_bytes(CONTENT)
    assert find_weights(gone, folder, cache) == folder / "net.pth"


def test_damaged_weights_are_an_error(tmp_path: Path, offered: WeightsFile) -> None:
    folder, cache = tmp_path / "folder", tmp_path / "cache"
    find_weights(offered, None, cache)
    folder.mkdir()
    (folder / "net.pth").write_bytes(CONTENT[:100])
    with pytest.raises(MissingDependencyError, match=f"{folder}/net.pth: damaged or another file.*{SHA}"):
        find_weights(offered, folder, cache)


def test_a_download_with_another_digest_is_discarded(tmp_path: Path, offered: WeightsFile) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(MissingDependencyError, match="SHA-256 of the download"):
        find_weights(replace(offered, sha256="00000000"), None, cache)
    assert not list(cache.iterdir())


def test_a_failed_download_names_the_address_and_the_setting(tmp_path: Path, offered: WeightsFile) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # no one listens: refused at once
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/net.pth"
        with pytest.raises(MissingDependencyError) as told:
            find_weights(replace(offered, url=url), tmp_path, tmp_path / "cache")
    message = str(told.value)
    assert "\n" not in message
    for said in ("net.pth", str(tmp_path / "cache"), "refused", url, "`weights`"):
        assert said in message


def test_a_silent_server_is_given_up(
    tmp_path: Path, offered: WeightsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pth"
        with pytest.raises(MissingDependencyError, match="timed out"):
            find_weights(replace(offered, url=url), None, tmp_path / "cache")


def place_weights(state, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in a library's file, registered as the published ones."""
    import torch

    real = getattr(pretrained_module, name)
    path = folder / real.name
    torch.save(state, path)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained_module, name, WeightsFile(real.name, "file:///nowhere", sha))
    return path


def pairs(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    # Each of a colour of its own.
    color = generator.integers(0, 256, size=(count, 1, 1, 3))
    first = ((color + generator.integers(0, 256, size=(count, size, size, 3))) / 2).astype(np.uint8)
    return first, np.clip(first + generator.normal(0, 40, size=first.shape), 0, 255).astype(np.uint8)


def channels_first(pictures: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


@pytest.mark.filterwarnings("ignore")
def test_lpips_is_that_of_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    library = pytest.importorskip("torchmetrics.image.lpip")
    torch.manual_seed(0)
    weights = tmp_path / "checkpoints"
    weights.mkdir()
    place_weights(models.alexnet(weights=None).state_dict(), "ALEXNET", weights, monkeypatch)
    first, second = pairs(20, 64)
    found = Perceptual.load(weights).distance(first, second)

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))  # where the library finds the same file
    network = library.LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    expected = [
        float(network(channels_first(a[None]) / 255.0, channels_first(b[None]) / 255.0))
        for a, b in zip(first, second, strict=True)
    ]
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(
        Perceptual.load(weights).distance(first / 255.0, second / 255.0), found, atol=1e-6
    )
    np.testing.assert_array_equal(Perceptual.load(weights).distance(first[:2], first[:2]), 0)
    with pytest.raises(ValueError, match="31 x 31"):
        Perceptual.load(weights).distance(first[:, :30], second[:, :30])


@pytest.mark.filterwarnings("ignore")
def test_lpips_is_that_of_its_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    lpips = pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(1)
    weights = tmp_path / "checkpoints"
    weights.mkdir()
    place_weights(models.alexnet(weights=None).state_dict(), "ALEXNET", weights, monkeypatch)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    first, second = pairs(5, 96)
    network = lpips.LPIPS(net="alex", verbose=False)
    with torch.inference_mode():
        expected = network(channels_first(first) / 255.0, channels_first(second) / 255.0, normalize=True)
    np.testing.assert_allclose(
        Perceptual.load(weights).distance(first, second), expected.numpy().reshape(-1), atol=1e-6
    )


@pytest.mark.filterwarnings("ignore")
def test_fid_kid_and_is_are_those_of_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    fidelity = pytest.importorskip("torch_fidelity")
    extractor = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3"
    ).FeatureExtractorInceptionV3

    class Random(extractor):
        """The library's network as it is before any weights."""

        def load_state_dict(self, state) -> None:
            pass

    torch.manual_seed(0)
    torch.save({}, tmp_path / "none.pth")
    state = Random("random", ["2048"], feature_extractor_weights_path=str(tmp_path / "none.pth")).state_dict()
    for weight in state.values():
        if weight.ndim == 4:  # of a magnitude that carries differences between images through all layers
            torch.nn.init.kaiming_normal_(weight)
    state["fc.weight"] *= 30  # classes that differ between images
    path = place_weights(state, "INCEPTION", tmp_path, monkeypatch)
    real, generated = pairs(20, 32)
    network = Inception.load(tmp_path)
    features, probabilities = network.features(real)
    direct = extractor("same", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    expected, logits = direct(channels_first(real))
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(probabilities, torch.softmax(logits, 1).numpy(), rtol=1e-4, atol=1e-5)
    assert probabilities.shape == (20, 1008)
    assert np.ptp(features, axis=0).max() > 1e-2

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, pictures: np.ndarray) -> None:
            self.pictures = channels_first(pictures)

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, index: int):
            return self.pictures[index]

    scores = fidelity.calculate_metrics(
        input1=Pictures(generated),
        input2=Pictures(real),
        fid=True,
        kid=True,
        isc=True,
        cuda=False,
        cache=False,
        verbose=False,
        isc_splits=1,
        kid_subsets=1,
        kid_subset_size=20,
        feature_extractor_weights_path=str(path),
    )
    other, classes = network.features(generated)
    assert frechet_distance(features, other) == pytest.approx(scores["frechet_inception_distance"], rel=1e-4)
    assert kernel_distance(features, other) == pytest.approx(
        scores["kernel_inception_distance_mean"], rel=1e-3
    )
    assert scores["inception_score_mean"] > 1.01
    assert inception_score(classes) == pytest.approx(scores["inception_score_mean"], abs=1e-4)
