"""A trained model in a few lines of Python: ``nerfgen.load`` and the methods of what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras
from nerfgen.inversion import FitSettings, fit_images
from nerfgen.mesh import MESH_SCHEMA, MeshSettings, Surface, check_mesh_name, object_surface, write_surface
from nerfgen.model import (
    Model,
    Objects,
    Principal,
    SampleSettings,
    drawn_objects,
    find_objects,
    load_model,
    model_file,
    walk_axis,
    walk_between,
)
from nerfgen.parallel import Progress, silent
from nerfgen.render import RenderSettings, ViewCameras, Views, render_views

Image = Path | str | UInt8[np.ndarray, "height width 3"]
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
        model: the content of the file: networks, table of latent codes, cameras, recipe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model: Model = load_model(path)

    @property
    def codes(self) -> Float[np.ndarray, "rows latent"]:
        """The table: one latent code per row."""
        return self.model.latents

    @property
    def images(self) -> list[str]:
        """The path of each row's image."""
        return self.model.images

    @cached_property
    def principal(self) -> Principal:
        """The table as a Gaussian: mean, principal axes, standard deviations."""
        return self.model.principal

    def objects(self, *references: str) -> Objects:
        """Objects as the command line names them: rows (``"0,5-9"``), files of latent codes (``"fitted.h5:0"``)."""
        return find_objects(self.model, storage.file_digest(self.path)[1], references)

    def sample(self, sampling: SampleSettings = SampleSettings()) -> Float[np.ndarray, "samples latent"]:
        """Latent codes of new objects, drawn from the table's Gaussian; sample i depends only on the seed and i."""
        principal = self.principal.first(sampling.components or 0)
        return drawn_objects(principal, sampling.count, sampling.truncation, sampling.seed).latents

    def between(self, codes: Codes, frames: int) -> Objects:
        """Objects on a path through given ones, see :func:`nerfgen.model.walk_between`."""
        return walk_between(_as_objects(codes), self.principal, frames)

    def along(self, axis: int, values: Sequence[float], start: Codes | None = None) -> Objects:
        """Objects along a principal axis, counted from 1, see :func:`nerfgen.model.walk_axis`."""
        first = None if start is None else _as_objects(start)
        return walk_axis(self.principal, axis, np.asarray(values, float), first)

    def fit(
        self,
        images: Image | Sequence[Image],
        fitting: FitSettings = FitSettings(),
        *,
        progress: Progress = silent,
    ) -> Objects:
        """Latent codes and cameras of new images: files, folders of them, and upright RGB images in memory.

        Raises:
            InputError: a path does not exist, or no image is usable.
        """
        given = [images] if isinstance(images, Path | str | np.ndarray) else images
        sources = [Path(image) if isinstance(image, str) else image for image in given]
        return fit_images(self.model, sources, fitting=fitting, progress=progress)

    def cameras(self, cameras: ViewCameras = ViewCameras()) -> Cameras:
        """Cameras as the command line chooses them, see :class:`nerfgen.render.ViewCameras`."""
        return cameras.of(self.model.object_class, self.model.distance).path.cameras

    def turned(
        self,
        yaw: Sequence[float],
        pitch: Sequence[float] = (0.0,),
        *,
        distance: float | None = None,
        fov: float | None = None,
    ) -> Cameras:
        """Cameras around the object: every yaw at every pitch, degrees.

        Args:
            distance: from the origin, world units; by default the median of the training cameras.
            fov: field of view across the whole image, degrees; by default the unit sphere fills the image.
        """
        return self.cameras(ViewCameras(yaw=tuple(yaw), pitch=tuple(pitch), distance=distance, fov=fov))

    def orbit(
        self,
        frames: int,
        pitch: float = 0.0,
        *,
        distance: float | None = None,
        fov: float | None = None,
    ) -> Cameras:
        """Cameras on a closed path: a full turn, or a swing to both sides for faces."""
        return self.cameras(ViewCameras(orbit=frames, pitch=(pitch,), distance=distance, fov=fov))

    def render(
        self,
        codes: Codes,
        cameras: Cameras | None = None,
        rendering: RenderSettings = RenderSettings(),
        *,
        with_normals: bool = False,
        progress: Progress = silent,
    ) -> Views:
        """Every code from every camera; all arrays have the axes (code, view, line, column).

        Args:
            cameras: by default each object's own, that of its image.

        Raises:
            InputError: there are no codes, or no cameras.
        """
        objects = _as_objects(codes)
        if cameras is None and objects.cameras is None:
            raise InputError(
                "these latent codes have no cameras of their own; give `cameras`, such as model.turned([-30, 0, 30])"
            )
        if not len(objects):
            raise InputError("no latent codes to render; give at least one")
        if cameras is not None and not len(cameras.cam_to_world):
            raise InputError("no cameras to render from; give at least one")
        size = rendering.size_of(self.model)
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
                    samples=rendering.samples,
                    antialias=rendering.antialias_of(self.model),
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

    def mesh(self, codes: Codes, meshing: MeshSettings = MeshSettings()) -> Surface:
        """The surface of one object, see :func:`nerfgen.mesh.object_surface`.

        Raises:
            InputError: there is not exactly one object.
        """
        objects = _as_objects(codes)
        if len(objects) != 1:
            raise InputError(f"a mesh is made of one object at a time, not of {len(objects)}")
        return object_surface(self.model.tuned(objects.tuned.get(0)), objects.latents[0], meshing)

    def save_mesh(self, path: Path, codes: Codes, meshing: MeshSettings = MeshSettings()) -> Surface:
        """:meth:`mesh`, written as GLB, PLY or OBJ by the suffix of its name; replaces what is there.

        Raises:
            InputError: another suffix, or not exactly one object.
        """
        check_mesh_name(path)
        found = self.mesh(codes, meshing)
        stage = storage.Stage(
            path,
            MESH_SCHEMA,
            self.model.object_class,
            parameters=asdict(meshing),
            inputs=[storage.file_record(self.path)],
        )
        write_surface(stage, found)
        return found


def _as_objects(codes: Codes) -> Objects:
    if isinstance(codes, Objects):
        objects = codes
    else:
        latents = np.atleast_2d(np.asarray(codes, np.float32))
        count = len(latents) if latents.size else 0
        names = [f"code {number}" for number in range(count)]
        objects = Objects(names, ["ok"] * count, np.full(count, -1), latents)
    if not len(objects):
        raise InputError("there are no latent codes; give at least one")
    return objects
