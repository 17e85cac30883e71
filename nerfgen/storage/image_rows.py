"""The image axis of per-image files: the status of each image, and joins of files by image path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import h5py
import numpy as np
from jaxtyping import Bool, Int

from nerfgen.untrusted import printable

_NO_CONTENT = hashlib.sha256().hexdigest()

# Following commands use images with these statuses and skip all others.
USABLE = ("ok", "ok_largest")
STATUSES = {
    "ok": "usable",
    "ok_largest": "usable; several objects were found and the largest was used",
    "unreadable": "the file cannot be decoded as an image",
    "too_large": "the image has more than 500 million pixels, or decoding it takes more memory than NERFGEN_READ_LIMIT",
    "bad_name": "the name is not UTF-8, or has control characters or a backslash; the row shows them escaped",
    "outside": "a link leads out of the folder of the images, which NERFGEN_FOLLOW_LINKS=1 permits",
    "no_object": "the estimator found no object of the class",
    "too_small": "the object is too small in the image",
    "no_alpha": "the image has no alpha channel to use as mask",
    "not_converged": "no acceptable camera: fewer than four landmarks, flipped, behind the camera, or too large a "
    "reprojection error; in latent fitting also no latent code better than the initial guess",
    "no_mask": "the segmenter found no foreground in the window, or there is no mask of the image",
    "no_plain_background": "the image's border has several colours, so that no single one is the background",
    "bad_mask": "the given mask cannot be read, or its shape differs from the image's",
    "skipped": "an earlier stage could not use this image",
    "absent": "listed among the images, but the file does not exist",
    "no_camera": "its camera is missing or invalid: no rotation, or no focal length",
    "looks_away": "its camera looks away from the world origin, where objects are",
    "wrong_shape": "the image's aspect ratio differs from that of its camera or its annotation",
    "not_annotated": "its landmarks are not annotated, or only some of them",
    "not_chosen": "other images of its object were chosen",
    "changed": "the image is another one than its landmarks, camera or mask were made of; run those commands again",
    "known": "the base model already has a row for this image",
}


def usable(status: Sequence[str]) -> Bool[np.ndarray, "images"]:
    """Which images the following stages may use."""
    return np.array([value in USABLE for value in status], dtype=bool)


def positions(wanted: Sequence[str], present: Sequence[str]) -> Int[np.ndarray, "wanted"]:
    """Index in ``present`` of every path in ``wanted``; -1 where it is absent."""
    index = {path: position for position, path in enumerate(present)}
    return np.array([index.get(path, -1) for path in wanted], dtype=np.int64)


def image_digests(file: h5py.File) -> dict[str, str]:
    """SHA-256 of the image that each row of a per-image file was made of; empty if the file does not record it."""
    if "image_sha256" not in file:
        return {}
    return dict(zip(file["image"].asstr()[:], file["image_sha256"].asstr()[:], strict=True))


def changed_images(
    status: Sequence[str],
    images: Sequence[str],
    digests: Mapping[str, str],
    *recorded: Mapping[str, str],
) -> tuple[list[str], list[str]]:
    """Rows whose image is another one than a file was made of, although it has the same name.

    Args:
        status: of the images, so far.
        digests: SHA-256 of each image's file as it is now, or as another file records it; unknown ones may be absent.
        recorded: by :func:`image_digests`, of each file that is joined.

    Returns:
        The statuses, ``changed`` for usable images of another content, and the names of these images.
    """
    found, names = list(status), []
    for row, (own, image) in enumerate(zip(status, images, strict=True)):
        present = digests.get(image, _NO_CONTENT)
        known = {known[image] for known in recorded if image in known}
        if own in USABLE and present != _NO_CONTENT and not known <= {present}:
            found[row] = "changed"
            names.append(image)
    return found, names


def changed_notice(names: Sequence[str], source: object, commands: str) -> str:
    """A warning that images are not those that a file was made of.

    Args:
        source: the file.
        commands: what makes it again.
    """
    return (
        f"warning: {len(names)} images are not those that {source} was made of, such as {printable(names[0])}; "
        f"run {commands} again"
    )
