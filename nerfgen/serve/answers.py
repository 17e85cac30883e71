"""The bytes of answers, by media type."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.image import contact_sheet, jpeg_bytes, png_bytes, save_video
from nerfgen.model import Objects
from nerfgen.render import Kind, Views, png_pixels, shared_limits, show
from nerfgen.serve.wire import JPEG, JSON, MP4, NPZ, PNG, Arrays, pack, pack_delta

Raster = UInt8[np.ndarray, "_ _ 3"]

# Of PNGs: fast. Their pixels are the same.
_COMPRESSION = 1


class Rendered(NamedTuple):
    """Views of objects.

    Attributes:
        names: of the objects.
        latents: their latent codes.
        views: of each object.
        intrinsics: of the views, in their pixels.
        cam_to_world: of the views.
    """

    names: list[str]
    latents: Float[np.ndarray, "objects latent"]
    views: list[list[Views]]
    intrinsics: Float[np.ndarray, "objects views 3 3"]
    cam_to_world: Float[np.ndarray, "objects views 4 4"]


def choose_type(accept: str, offered: Sequence[str]) -> str:
    """The offered media type that an Accept header prefers; empty if it excludes them all.

    Args:
        offered: the first is preferred among equals.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]

    def quality(media: str) -> float:
        for pattern in (media, f"{media.partition('/')[0]}/*", "*/*"):  # the most specific one counts
            found = [q for name, q in ranges if name == pattern]
            if found:
                return max(found)
        return 0.0

    best = max(offered, key=quality)
    return best if quality(best) > 0 else ""


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality."""
    name, *parameters = (word.strip().lower() for word in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0


def rendered_bytes(rendered: Rendered, media: str, kind: Kind, fps: float) -> bytes:
    """Views as an answer.

    Args:
        media: a PNG of a single view holds what `nerfgen render --png` writes; of several it is a contact sheet with a
            row for each object, as JPEGs are.
    """
    if media == NPZ:
        return pack(_view_arrays(rendered))
    values = [[_stored(view, kind) for view in views] for views in rendered.views]
    if media == JSON:
        encoded = [[base64.b64encode(_png(kind, each)).decode() for each in row] for row in values]
        size = rendered.views[0][0].rgb.shape[0]
        return json_bytes({"names": rendered.names, "kind": kind, "size": size, "views": encoded})
    if media == PNG and len(values) == len(values[0]) == 1:
        return _png(kind, values[0][0])
    shown = [_shown(kind, row) for row in values]
    if media == MP4:
        return _video([contact_sheet(column) for column in zip(*shown, strict=True)], fps)
    sheet = contact_sheet([contact_sheet(row, columns=len(row)) for row in shown], columns=1)
    return jpeg_bytes(sheet) if media == JPEG else png_bytes(sheet, compression=_COMPRESSION)


def _view_arrays(rendered: Rendered) -> Arrays:
    first = rendered.views[0][0]
    arrays = {
        name: np.stack([[getattr(view, name) for view in views] for views in rendered.views])
        for name, values in vars(first).items()
        if values is not None
    }
    return arrays | {
        "latents": rendered.latents,
        "intrinsics": rendered.intrinsics,
        "cam_to_world": rendered.cam_to_world,
    }


def _stored(view: Views, kind: Kind) -> np.ndarray:
    """Values of one kind as a views file holds them, whose normals have 16 bits: images are the same as of files."""
    values = view.of_kind(kind)
    return values.astype(np.float16) if kind == "normals" else values


def _png(kind: Kind, values: np.ndarray) -> bytes:
    pixels, text = png_pixels(kind, values)
    return png_bytes(pixels, text, compression=_COMPRESSION)


def _shown(kind: Kind, values: Sequence[np.ndarray]) -> list[Raster]:
    """Views of one object for people; their depths are shaded alike."""
    limits = shared_limits(values) if kind == "depth" else (np.nan, np.nan)
    return [show(kind, each, limits) for each in values]


def _video(frames: Sequence[Raster], fps: float) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nerfgen-serve-") as folder:
        path = Path(folder) / "views.mp4"
        save_video(path, frames, fps)
        return path.read_bytes()


def objects_record(objects: Objects) -> list[dict[str, Any]]:
    """Fitted images as JSON; what an unusable one lacks is null. Cameras are those of a view of size 1."""
    cameras = objects.cameras
    assert cameras is not None
    found = []
    for number, status in enumerate(objects.status):
        psnr = float(objects.extra["fit_psnr"][number])
        is_fitted = psnr == psnr
        found.append(
            {
                "status": status,
                "psnr_db": round(psnr, 3) if is_fitted else None,
                "iterations": int(objects.extra["fit_iterations"][number]),
                "latent": objects.latents[number].tolist() if is_fitted else None,
                "camera": {name: part[number].tolist() for name, part in cameras._asdict().items()}
                if is_fitted
                else None,
                "tuned": number in objects.tuned,
            }
        )
    return found


def object_arrays(objects: Objects) -> Arrays:
    """Objects as arrays; cameras are those of a view of size 1."""
    arrays: Arrays = {"name": np.array(objects.names, str), "row": objects.rows, "latents": objects.latents}
    if objects.cameras is not None:
        arrays |= objects.cameras._asdict()
    return arrays | objects.extra


def fitted_arrays(objects: Objects, owner: str) -> Arrays:
    """Fitted images as arrays: with the framed image of each that is usable, and the change of the networks."""
    arrays = object_arrays(objects) | {"status": np.array(objects.status, str), "owner": np.array(owner, str)}
    for number, image in objects.images.items():
        arrays[f"image/{number}"] = image
    arrays["tuned"] = np.array(sorted(objects.tuned), np.int64)
    for delta in list(objects.tuned.values())[:1]:
        arrays |= pack_delta(delta)
    return arrays


def json_bytes(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
