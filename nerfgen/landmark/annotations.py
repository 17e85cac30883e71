"""Annotated images, whatever format they were read from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.image import InputImage, match_names
from nerfgen.untrusted import READ_LIMIT, excerpt, printable, read_limit, safe_relative_path

# No image is larger, pixels.
_FARTHEST = 1e7
_MAX_LISTED = 12


@dataclass(frozen=True)
class Annotations:
    """Annotated images, one object each.

    Attributes:
        images: paths relative to the folder of the images, ``/`` between folders.
        names: names of the landmarks; "0", "1", ... where the source does not name them.
        points: x and y in the image's pixels, as the source gives them; NaN where a point is missing.
        labels: class of each object; "" where the source names none.
        sizes: width and height of the image that the points refer to, pixels; 0 where the source does not say.
        notes: what of the source was skipped, one line each.
    """

    images: tuple[str, ...]
    names: tuple[str, ...]
    points: Float[np.ndarray, "image landmark 2"]
    labels: tuple[str, ...]
    sizes: Int[np.ndarray, "image 2"]
    notes: tuple[str, ...] = ()

    def with_names(self, names: Sequence[str], source: str) -> Annotations:
        """The landmarks of these names in this order. Unnamed landmarks take the names if their numbers are equal.

        Args:
            source: names the annotations in errors.

        Raises:
            InputError: a landmark is missing, or the numbers of landmarks differ.
        """
        names = tuple(names)
        if self.names == tuple(str(number) for number in range(len(self.names))):
            if len(names) != len(self.names):
                raise InputError(
                    f"{source} has {len(self.names)} unnamed points, but the class has {len(names)} landmarks "
                    f"({_listed(names)}); name the columns NAME_x, NAME_y"
                )
            return replace(self, names=names)
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(
                f"{source} lacks the landmark {printable(missing[0])} of the class; it has {_listed(self.names)}"
            )
        places = [self.names.index(name) for name in names]
        return replace(self, names=names, points=self.points[:, places])

    def of_files(self, present: Sequence[str], images: Path, source: Path) -> Annotations:
        """With the names of the files that they mean; see :func:`nerfgen.image.match_names`.

        Where no name means a file, folders are ignored: copies of published sets have other ones. Annotations of other
        images keep their names.

        Args:
            present: files of the folder ``images``.
            source: names the annotations in errors.

        Raises:
            InputError: no annotated image is among the files.
        """
        found = match_names(self.images, present)
        if not any(found):
            bases = [PurePosixPath(name).name for name in self.images]
            by_base = {PurePosixPath(name).name: name for name in present}
            unique = len(set(bases)) == len(bases) and len(by_base) == len(present)
            matched = match_names(bases, list(by_base)) if unique else []
            found = [base and by_base[base] for base in matched]
        if not any(found):
            raise InputError(
                f"{images} has none of the images that {source} annotates, such as {printable(self.images[0])}; "
                "set `images` to their folder"
            )
        # A file that a loosely spelled name means is not also another annotation's.
        taken = {name for name in found if name}
        kept = [row for row, name in enumerate(found) if name or self.images[row] not in taken]
        renamed = replace(
            self, images=tuple(file or own for file, own in zip(found, self.images, strict=True))
        )
        return renamed.rows(kept)

    def rows(self, chosen: Sequence[int]) -> Annotations:
        """Only these rows, in this order."""
        return replace(
            self,
            images=tuple(self.images[row] for row in chosen),
            points=self.points[list(chosen)],
            labels=tuple(self.labels[row] for row in chosen),
            sizes=self.sizes[list(chosen)],
        )


class _TooManyError(InputError):
    """All objects together take too much memory."""


@dataclass
class Collected:
    """The objects of a source as they are read: the largest one of each image.

    An entry that cannot be used is left out and counted, the others go on.

    Args:
        source: the file or folder of annotations.
        images: folder of the images; absolute names within it become relative.
        names: of the landmarks.
    """

    source: Path
    images: Path
    names: tuple[str, ...]
    _objects: dict[str, tuple[float, np.ndarray, str, tuple[int, int]]] = field(default_factory=dict)
    _skipped: dict[str, int] = field(default_factory=dict)
    _first_fault: str = ""

    @contextlib.contextmanager
    def entry(self) -> Iterator[None]:
        """A block that reads one entry; an :class:`InputError` within it costs that entry alone."""
        try:
            yield
        except _TooManyError:
            raise
        except InputError as error:
            self._first_fault = self._first_fault or str(error)
            self.skip("unusable entries")

    def skip(self, what: str) -> None:
        """Count an entry that is left out."""
        self._skipped[what] = self._skipped.get(what, 0) + 1

    def add(
        self,
        where: str,
        image: str,
        points: Float[np.ndarray, "landmark 2"],
        *,
        label: str = "",
        stated: tuple[int, int] = (0, 0),
        object_size: float | None = None,
    ) -> None:
        """One object.

        Args:
            where: the entry, for messages, such as ``line 3``.
            image: as the source names it.
            points: NaN where a point is missing.
            stated: size of the image that they refer to, see :attr:`Annotations.sizes`.
            object_size: which of several objects of an image is the largest; the extent of its points if None.

        Raises:
            InputError: the image's name is unsafe, or a point is not in any image.
        """
        name = safe_relative_path(self._relative(image), where)
        if (np.abs(points) > _FARTHEST).any():
            raise InputError(f"{where}: {np.abs(points).max():g} is not a position in an image")
        if np.isnan(points).any(axis=-1).all():
            self.skip("entries without a point")
            return
        if (len(self._objects) + 1) * points.nbytes > read_limit():
            raise _TooManyError(
                f"{self.source} has more than {len(self._objects):,} images of {len(self.names):,} landmarks, which "
                f"take more than the limit of {read_limit():,} bytes; {READ_LIMIT}=GIB raises it"
            )
        size = extent(points) if object_size is None else object_size
        known = self._objects.get(name)
        if known:
            self.skip("objects with a larger one in the same image")
        if known is None or size > known[0]:
            self._objects[name] = (size, points, label, stated)

    def annotations(self, named: Sequence[str] = (), notes: Sequence[str] = ()) -> Annotations:
        """All objects.

        Args:
            named: images that the source lists, annotated or not.
            notes: further ones.

        Raises:
            InputError: there is none; says why the first entry cannot be used.
        """
        if not self._objects:
            reason = self._first_fault or "has no annotated image"
            step = "" if ";" in reason else "; correct the annotations"
            raise InputError(f"{self.source} {reason}{step}")
        lines = [f"{count} {what}" for what, count in self._skipped.items()]
        if self._first_fault:
            lines = [line + f" (the first: {self._first_fault})" * ("unusable" in line) for line in lines]
        unannotated = len({*named} - self._objects.keys())
        if unannotated:
            lines.append(f"{unannotated} images without an annotation")
        _, points, labels, sizes = zip(*self._objects.values(), strict=True)
        return Annotations(
            tuple(self._objects), self.names, np.stack(points), labels, np.array(sizes), (*lines, *notes)
        )

    def _relative(self, image: str) -> str:
        """A name with ``/``, relative if it is that of a file in the folder of the images."""
        name = image.replace("\\", "/")
        for base in (
            (os.path.abspath(self.images), os.path.realpath(self.images)) if os.path.isabs(name) else ()
        ):
            if PurePosixPath(name).is_relative_to(Path(base).as_posix()):
                return PurePosixPath(name).relative_to(Path(base).as_posix()).as_posix()
        return name


def stated_size(where: str, width: Any, height: Any) -> tuple[int, int]:
    """The size of an image by its annotations, pixels; 0 where they don't state it.

    Args:
        where: the entry, for messages.
        width, height: values of a file, of any type.

    Raises:
        InputError: they are not positive numbers.
    """
    if width is None or height is None:
        return 0, 0
    if not all(type(side) in (int, float) and 1 <= side <= _FARTHEST for side in (width, height)):
        raise InputError(f"{where} has the size {excerpt(width)} x {excerpt(height)}, which no image has")
    return round(width), round(height)


def upright_points(
    points: Float[np.ndarray, "landmark 2"], stated: Int[np.ndarray, "2"], image: InputImage
) -> Float[np.ndarray, "landmark 2"] | None:
    """Points in the pixels of an upright image; None if its shape is not that of the annotated one.

    Points of a resized image are scaled. Those of an image that is stored rotated (EXIF) are rotated with it if the
    stated size is that of the stored pixels; where both sizes have one shape, points are taken as upright.

    Args:
        points: in an image of size ``stated``; NaN where missing.
        stated: width and height; 0 if unknown: the points are taken as they are.

    Raises:
        nerfgen.image.UnreadableImageError: the image can't be decoded.
    """
    upright = np.array(image.size)
    if not stated.all():
        return points
    if _same_shape(stated, upright):
        return _within(points * (upright / stated))
    if image.orientation >= 5 and _same_shape(stated, upright[::-1]):
        return _within(_turned(points * (upright[::-1] / stated), upright, image.orientation))
    return None


def _within(points: Float[np.ndarray, "landmark 2"]) -> Float[np.ndarray, "landmark 2"] | None:
    return None if (np.abs(points) > _FARTHEST).any() else points


def _turned(
    points: Float[np.ndarray, "landmark 2"], upright: Int[np.ndarray, "2"], orientation: int
) -> Float[np.ndarray, "landmark 2"]:
    """Points of the stored pixels in the upright image, for the EXIF orientations that exchange rows and columns."""
    x, y = points[:, 1], points[:, 0]
    return np.stack(
        [upright[0] - x if orientation in (6, 7) else x, upright[1] - y if orientation in (7, 8) else y],
        axis=-1,
    )


def _same_shape(stated: Int[np.ndarray, "2"], size: Int[np.ndarray, "2"]) -> bool:
    """Whether one size is the other, scaled and rounded to whole pixels."""
    scale_x, scale_y = size / stated
    # Of the two, the smaller one was rounded.
    return bool(
        min(abs(scale_x - scale_y) * stated.max(), abs(1 / scale_x - 1 / scale_y) * size.max()) <= 1.0
    )


def _listed(names: Sequence[str]) -> str:
    """Names in a message, the first of many."""
    return ", ".join(printable(name[:80]) for name in names[:_MAX_LISTED]) + (
        ", ..." if len(names) > _MAX_LISTED else ""
    )


def extent(points: Float[np.ndarray, "landmark 2"]) -> float:
    """The longer side of the bounding box of the points that are not missing; 0 if all are."""
    known = points[np.isfinite(points).all(axis=-1)]
    return float(np.ptp(known, axis=0).max()) if len(known) else 0.0
