"""A trained model in a few lines of Python: ``nerfgen.load``, and what can be done with what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.field import Model, load_model, model_file
from nerfgen.generate import (
    Objects,
    Principal,
    Views,
    drawn_objects,
    find_objects,
    fitting_antialias,
    photograph_objects,
    principal_axes,
    render_views,
    walk_axis,
    walk_between,
)
from nerfgen.geometry import Cameras, angle_grid, orbit_angles, turned_cameras
from nerfgen.parallel import Progress, silent
from nerfgen.surface import Meshing, Surface, check_mesh_name, object_surface, write_surface

Codes = Objects | Float[np.ndarray, "codes latent"] | Float[np.ndarray, "latent"]


def load(path: Path | str) -> GenerativeModel:
    """A trained model from its file, or from the folder that holds ``model.h5``.

    Raises:
        InputError: it is missing or no model.
    """
    return GenerativeModel(model_file(Path(path)))


class GenerativeModel:
    """A trained model, ready to sample, fit and render.

    Attributes:
        path: its file.
        model: all that the file holds: networks, table of codes, cameras, recipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model: Model = load_model(path)

    @property
    def codes(self) -> Float[np.ndarray, "rows latent"]:
        """The table: one code a training photograph."""
        return self.model.latents

    @property
    def images(self) -> list[str]:
        """The path of each row's photograph."""
        return self.model.images

    @cached_property
    def principal(self) -> Principal:
        """The table as a Gaussian: mean, principal axes, standard deviations."""
        return principal_axes(self.model.latents)

    def objects(self, *references: str) -> Objects:
        """Objects by what the command line calls them: rows (``"0,5-9"``), files of codes (``"fitted.h5:0"``)."""
        return find_objects(self.model, artifact.file_digest(self.path)[1], references)

    def sample(
        self, count: int, *, truncation: float = 0.7, components: int = 0, seed: int = 0
    ) -> Float[np.ndarray, "samples latent"]:
        """Codes of new objects: draws along the principal axes, truncated at so many standard deviations.

        Args:
            components: axes that vary; 0: all.
            seed: sample i depends on it and on i alone.
        """
        return drawn_objects(self.principal.first(components), count, truncation, seed).latents

    def between(self, codes: Codes, frames: int) -> Objects:
        """Objects on a path through given ones, see :func:`nerfgen.generate.walk_between`."""
        return walk_between(_as_objects(codes), self.principal, frames)

    def along(self, axis: int, values: Sequence[float], start: Codes | None = None) -> Objects:
        """Objects along a principal axis, counted from 1, see :func:`nerfgen.generate.walk_axis`."""
        first = None if start is None else _as_objects(start)
        return walk_axis(self.principal, axis, np.asarray(values, float), first)

    def fit(
        self,
        photographs: Path | str | Sequence[Path | str],
        *,
        progress: Progress = silent,
        **options: object,
    ) -> Objects:
        """Codes and cameras of photographs: image files, and folders of them.

        Args:
            options: those of :func:`nerfgen.generate.photograph_objects`.

        Raises:
            InputError: a path does not exist, or no photograph is usable.
        """
        given = [photographs] if isinstance(photographs, Path | str) else photographs
        return photograph_objects(self.model, [Path(one) for one in given], progress=progress, **options)  # type: ignore[arg-type]

    def turned(
        self,
        yaw: Sequence[float],
        pitch: Sequence[float] = (0.0,),
        *,
        distance: float = 0.0,
        fov: float = 0.0,
    ) -> Cameras:
        """Cameras that see the object turned: every yaw at every pitch, degrees.

        Args:
            distance: from the origin, world units; 0: the median of the training cameras.
            fov: degrees from edge to edge of the picture; 0: so that the unit sphere fills it.
        """
        angles = angle_grid(yaw, pitch)
        return turned_cameras(angles[:, 0], angles[:, 1], distance or self.model.distance, fov)

    def orbit(self, frames: int, pitch: float = 0.0, *, distance: float = 0.0, fov: float = 0.0) -> Cameras:
        """Cameras on a closed path: all the way round or, for faces, a swing to both sides."""
        angles = orbit_angles(frames, self.model.object_class.turn, pitch)
        return turned_cameras(angles[:, 0], angles[:, 1], distance or self.model.distance, fov)

    def render(
        self,
        codes: Codes,
        cameras: Cameras | None = None,
        *,
        size: int = 0,
        samples: int = 0,
        antialias: int = 0,
        with_normals: bool = False,
        progress: Progress = silent,
    ) -> Views:
        """Every code from every camera; all arrays have the axes (code, view, line, column).

        Args:
            cameras: None: each object's own, that of its photograph.
            size: edge of the pictures, pixels; 0: as trained.
            samples: of a ray that meets the object; 0: see :func:`nerfgen.generate.render_views`.
            antialias: rays a pixel along either side; 0: as many as the model has detail for.

        Raises:
            ValueError: no cameras, and objects without their own.
        """
        objects = _as_objects(codes)
        if cameras is None and objects.cameras is None:
            raise ValueError(
                "codes have no cameras of their own; give some, such as model.turned([-30, 0, 30])"
            )
        size = size or self.model.size
        rendered = []
        for number in range(len(objects)):
            seen = cameras or Cameras(*(part[number][None] for part in objects.cameras or ()))
            views = len(seen.cam_to_world)
            rendered.append(
                render_views(
                    self.model.tuned(objects.tuned.get(number)),
                    np.tile(objects.latents[number], (views, 1)),
                    seen.matrices(size),
                    seen.cam_to_world,
                    size,
                    samples=samples,
                    antialias=antialias or fitting_antialias(self.model, size),
                    with_normals=with_normals,
                )
            )
            progress(number + 1, len(objects))
        stacked = {
            name: np.stack([getattr(one, name) for one in rendered])
            for name, values in vars(rendered[0]).items()
            if values is not None
        }
        return Views(**stacked)

    def mesh(self, codes: Codes, meshing: Meshing = Meshing()) -> Surface:
        """The surface of one object, see :func:`nerfgen.surface.object_surface`.

        Raises:
            ValueError: not one object.
        """
        objects = _as_objects(codes)
        if len(objects) != 1:
            raise ValueError(f"a mesh is that of one object, and here are {len(objects)}")
        return object_surface(self.model.tuned(objects.tuned.get(0)), objects.latents[0], meshing)

    def save_mesh(self, path: Path, codes: Codes, meshing: Meshing = Meshing()) -> Surface:
        """:meth:`mesh`, written as GLB, PLY or OBJ by the suffix of its name; replaces what is there.

        Raises:
            InputError: another suffix.
            ValueError: not one object.
        """
        check_mesh_name(path)
        found = self.mesh(codes, meshing)
        about: artifact.About = {
            "object_class": self.model.object_class,
            "parameters": asdict(meshing),
            "inputs": [artifact.file_record(self.path)],
        }
        write_surface(path, found, about)
        return found


def _as_objects(codes: Codes) -> Objects:
    if isinstance(codes, Objects):
        return codes
    latents = np.atleast_2d(np.asarray(codes, np.float32))
    count = len(latents)
    return Objects([f"code {number}" for number in range(count)], ["ok"] * count, np.full(count, -1), latents)
