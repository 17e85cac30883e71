"""True depth of photographs that the model knows a code of, from what there is: the truth of a synthetic class, true
keypoints that a user brings, or a landmarker's own relative depth in their place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.evaluate.given import read_keypoints
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.truth import SOLID
from nerfgen.evaluate.unseen import Unseen, fit_photographs
from nerfgen.geometry import optical_axis, project
from nerfgen.parallel import Progress, silent

# A keypoint so far behind the surface, in edges of the window, is hidden. Keypoints that are seen lie up to about this
# far below it (the corners of the mouth of synthetic heads), and one that is hidden by less is hardly misjudged.
_HIDDEN = 0.025


@dataclass(frozen=True)
class Known:
    """Photographs as the model knows them.

    Attributes:
        names, files: what they are called, and where they are.
        latents: their codes.
        intrinsics, cam_to_world, window: of the photographs, in the model's world.
    """

    names: list[str]
    files: list[Path]
    latents: Float[np.ndarray, "photographs latent"]
    intrinsics: Float[np.ndarray, "photographs 3 3"]
    cam_to_world: Float[np.ndarray, "photographs 4 4"]
    window: Float[np.ndarray, "photographs 3"]

    def some(self, chosen: Int[np.ndarray, "some"]) -> Known:
        """Some of them, by their places."""
        arrays = {
            name: getattr(self, name)[chosen] for name in ("latents", "intrinsics", "cam_to_world", "window")
        }
        names, files = ([listed[place] for place in chosen] for listed in (self.names, self.files))
        return Known(names, files, **arrays)


@dataclass(frozen=True)
class DepthMaps:
    """True depth, pixel by pixel.

    Attributes:
        window: of the photograph, that each map spans.
        intrinsics, cam_to_world: true cameras of the photographs.
        depth: along the optical axis, in the true world's units; 0 where there is more than the object alone.
    """

    window: Float[np.ndarray, "photographs 3"]
    intrinsics: Float[np.ndarray, "photographs 3 3"]
    cam_to_world: Float[np.ndarray, "photographs 4 4"]
    depth: Float[np.ndarray, "photographs size size"]


@dataclass(frozen=True)
class TrueDepth:
    """Photographs with true depth.

    Attributes:
        known: the photographs.
        keypoints: x and y in pixels of the photograph, and depth: that of :func:`behind_origin` where there are
            ``maps``, else in a unit and from a zero of each image's own. NaN where hidden or not known.
        maps: None where only keypoints are known.
        notes: what it is.
    """

    known: Known
    keypoints: Float[np.ndarray, "photographs keypoints 3"]
    maps: DepthMaps | None
    notes: list[str]


def true_depth(subject: Subject, progress: Progress = silent) -> TrueDepth | str:
    """The first of these that there is: keypoints that were given; the truth of photographs that the model has not
    seen; that of the training photographs; the relative depth that their landmarker told. Otherwise, what is missing.

    Args:
        progress: told of fitting.

    Raises:
        InputError: the keypoints that were given can't be used.
    """
    sources = subject.sources
    if sources.keypoints:
        return _given(subject, sources.keypoints, progress)
    others = sources.others
    if others and (others / "truth.h5").is_file():
        try:
            unseen = subject.unseen(progress)
        except InputError as error:
            return subject.told(error)
        told = f"new photographs of {others.name}, a code fitted to each"
        return _of_truth(_of_unseen(unseen), others / "truth.h5", told)
    model, settings = subject.model, subject.settings
    trained = _of_table(subject, choose(model.images, settings.images, settings.seed))
    if (sources.data / "truth.h5").is_file():
        return _of_truth(
            trained, sources.data / "truth.h5", "training photographs, by the codes of the table"
        )
    return _of_mesh(trained, sources.data / "landmarks.h5")


def behind_origin(
    depth: Float[np.ndarray, "photographs *points"],
    intrinsics: Float[np.ndarray, "photographs 3 3"],
    cam_to_world: Float[np.ndarray, "photographs 4 4"],
    side: Float[np.ndarray, "photographs"],
) -> Float[np.ndarray, "photographs *points"]:
    """Depth behind the world's origin, in edges of a window about the object: (z - z0) f / (z0 side).

    z0 is the depth of the origin and f the focal length in pixels of the photograph: lengths are measured by the pixels
    that they span where the object is. So neither the world's unit nor the trade between focal length and distance,
    which no photograph tells, matters.

    Args:
        side: edges of the windows, pixels of the photograph.
    """
    scale, origin = _gauge(intrinsics, cam_to_world, side, depth.ndim)
    return (depth - origin) / scale


def from_origin(
    behind: Float[np.ndarray, "photographs *points"],
    intrinsics: Float[np.ndarray, "photographs 3 3"],
    cam_to_world: Float[np.ndarray, "photographs 4 4"],
    side: Float[np.ndarray, "photographs"],
) -> Float[np.ndarray, "photographs *points"]:
    """The inverse of :func:`behind_origin`."""
    scale, origin = _gauge(intrinsics, cam_to_world, side, behind.ndim)
    return behind * scale + origin


def _gauge(
    intrinsics: np.ndarray, cam_to_world: np.ndarray, side: np.ndarray, axes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the windows' edges where the object is, and depths of the origin."""
    origin = -np.einsum("ni,ni->n", cam_to_world[:, :3, 3], optical_axis(cam_to_world))
    shape = (-1, *(1,) * (axes - 1))
    return (origin * side / intrinsics[:, 0, 0]).reshape(shape), origin.reshape(shape)


def _given(subject: Subject, path: Path, progress: Progress) -> TrueDepth | str:
    """Keypoints of a user."""
    sources, settings = subject.sources, subject.settings
    given = read_keypoints(path)
    folder = sources.others or sources.data
    for name in given:
        if not (folder / name).is_file():
            raise InputError(f"{path.name}: {name} is not in {folder.name}")
    listed = list(given)
    listed = [listed[place] for place in choose(listed, settings.images, settings.seed)]
    notes = [f"true keypoints of {len(listed)} of {len(given)} photographs of {path.name}"]
    if sources.others:
        try:
            unseen = fit_photographs(subject.model, sources, listed, settings, subject.workers, progress)
        except InputError as error:
            return subject.told(error)
        known = _of_unseen(unseen)
        notes += unseen.notes
    else:
        rows = artifact.positions(listed, subject.model.images)
        if not (rows >= 0).any():
            return f"{path.name} lists no training photograph: give --others with its photographs"
        known = _of_table(subject, rows[rows >= 0])
        notes[0] += ", by the codes of the table"
        if (rows < 0).any():
            notes.append(f"{(rows < 0).sum()} of them have no row in the table, and are left out")
    return TrueDepth(known, np.stack([given[name] for name in known.names]), None, notes)


def _of_truth(known: Known, truth: Path, told: str) -> TrueDepth | str:
    """Depth maps and keypoints of a synthetic class."""
    with artifact.reading(truth, "truth/1") as file:
        place = artifact.positions(known.names, artifact.strings(file["image"]))
        there = np.flatnonzero(place >= 0)
        if not len(there):
            return f"{truth.name} of {truth.parent.name} holds none of the photographs"
        own, rows = known.some(there), place[there]
        raw = np.stack([file["depth"][row] for row in rows]).astype(np.float64)
        solid = np.stack([file["mask"][row] for row in rows]) > SOLID * 255
        cameras = file["intrinsics"][:][rows], file["cam_to_world"][:][rows]
        spanned, points = file["mask_window"][:][rows], file["keypoints"][:][rows]
    pixels, depth = project(points, *cameras)
    side = own.window[:, 2]
    keypoints = np.concatenate([pixels, behind_origin(depth, *cameras, side)[..., None]], axis=-1)
    hidden = _hidden(keypoints, behind_origin(_farthest(raw), *cameras, side), spanned)
    notes = [f"{len(there)} {told}; depth by its truth.h5"]
    if len(there) < len(known.names):
        notes.append(f"{len(known.names) - len(there)} more are not in truth.h5")
    if hidden.any():
        notes.append(f"{hidden.sum()} of {hidden.size} keypoints are hidden by the object, and not counted")
    keypoints = np.where(hidden[..., None], np.nan, keypoints)
    return TrueDepth(own, keypoints, DepthMaps(spanned, *cameras, np.where(solid, raw, 0)), notes)


def _farthest(
    depth: Float[np.ndarray, "photographs size size"],
) -> Float[np.ndarray, "photographs size size"]:
    """The farthest surface at each pixel or beside it, so that a point at an edge isn't hidden by what is before it."""
    size = depth.shape[-1]
    padded = np.pad(depth, ((0, 0), (1, 1), (1, 1)))
    return np.max([padded[:, y : y + size, x : x + size] for y in range(3) for x in range(3)], axis=0)


def _hidden(
    keypoints: Float[np.ndarray, "photographs keypoints 3"],
    surface: Float[np.ndarray, "photographs size size"],
    window: Float[np.ndarray, "photographs 3"],
) -> Bool[np.ndarray, "photographs keypoints"]:
    """Which keypoints lie behind the surface that the photograph shows there, or where it shows none."""
    size = surface.shape[-1]
    raster = (keypoints[..., :2] - window[:, None, :2]) * (size / window[:, None, 2:])
    column, row = np.moveaxis(np.floor(raster).astype(int), -1, 0)
    outside = (np.minimum(column, row) < 0) | (np.maximum(column, row) >= size)
    there = surface[np.arange(len(surface))[:, None], row.clip(0, size - 1), column.clip(0, size - 1)]
    return outside | (keypoints[..., 2] - there > _HIDDEN)


def _of_mesh(known: Known, landmarks: Path) -> TrueDepth | str:
    """The landmarker's own relative depth of its dense points, in the place of a true one."""
    absent = (
        "true depth: give --others with a truth.h5, --data with one, or --keypoints; a landmarker with a mesh would "
        "have served in its place"
    )
    if not landmarks.is_file():
        return absent
    with artifact.reading(landmarks, "landmarks/1") as file:
        if "mesh" not in file or not file["mesh"].shape[1]:
            return absent
        place = artifact.positions(known.names, artifact.strings(file["image"]))
        usable = artifact.usable(artifact.strings(file["status"]))
        there = np.flatnonzero((place >= 0) & usable[place])
        mesh = (
            np.stack([file["mesh"][row] for row in place[there]]).astype(np.float64) if len(there) else None
        )
    if mesh is None:
        return absent
    return TrueDepth(
        known.some(there),
        mesh,
        None,
        [
            f"a proxy, no truth: the relative depth that the landmarker tells of its {mesh.shape[1]} points, hidden "
            f"ones too, on {len(there)} of {len(known.names)} training photographs, by the codes of the table"
        ],
    )


def _of_unseen(unseen: Unseen) -> Known:
    framed = unseen.framed
    return Known(
        framed.images, unseen.files, unseen.latents, framed.intrinsics, framed.cam_to_world, framed.window
    )


def _of_table(subject: Subject, rows: Int[np.ndarray, "rows"]) -> Known:
    model, data = subject.model, subject.sources.data
    return Known(
        model.images,
        [data / name for name in model.images],
        model.latents,
        model.intrinsics,
        model.cam_to_world,
        model.window,
    ).some(rows)
