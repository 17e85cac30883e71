"""A trained model in a few lines of Python: ``nerfgen.load`` and the methods of what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.geometry import Cameras
from nerfgen.interface import LatentModel, as_objects, cameras_of_each, one_object
from nerfgen.inversion import FitSettings, fit_images
from nerfgen.mesh import MESH_SCHEMA, MeshSettings, Surface, check_mesh_name, object_surface, write_surface
from nerfgen.model import (
    Model,
    Objects,
    Principal,
    SampleSettings,
    find_objects,
    load_model,
    model_file,
    new_objects,
)
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, silent
from nerfgen.render import RenderSettings, Views, render_views

if TYPE_CHECKING:
    from nerfgen.interface import Codes, Image


def load(path: Path | str) -> GenerativeModel:
    """A trained model from its file, or from the folder that holds ``model.h5``.

    Raises:
        InputError: it is missing or no model.
    """
    return GenerativeModel(model_file(Path(path)))


class GenerativeModel(LatentModel):
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

    @property
    def object_class(self) -> ObjectClass:
        """The class of its objects."""
        return self.model.object_class

    @property
    def distance(self) -> float:
        """Median distance of the training cameras from the world origin, world units."""
        return self.model.distance

    @property
    def principal(self) -> Principal:
        """The table as a Gaussian: mean, principal axes, standard deviations."""
        return self.model.principal

    def sample(self, sampling: SampleSettings = SampleSettings()) -> Float[np.ndarray, "samples latent"]:
        """Latent codes of new objects; sample i depends only on the seed and i.

        Raises:
            InputError: the prior is of entries of codebooks, and the model has none.
        """
        return new_objects(self.model, sampling).latents

    def objects(self, *references: str) -> Objects:
        """Objects as the command line names them: rows (``"0,5-9"``), files of latent codes (``"fitted.h5:0"``)."""
        return find_objects(self.model, storage.file_digest(self.path)[1], references)

    def fit(
        self,
        images: Image | Sequence[Image],
        fitting: FitSettings = FitSettings(),
        *,
        progress: Progress = silent,
    ) -> Objects:
        """Latent codes and cameras of new images: files, folders of them, URLs of either in an object store, and
        upright RGB images in memory.

        Raises:
            InputError: a path does not exist, or no image is usable.
        """
        given = [images] if isinstance(images, Path | str | np.ndarray) else images
        return fit_images(self.model, given, fitting=fitting, progress=progress)

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
        objects = as_objects(codes)
        size, antialias = rendering.size_of(self.model), rendering.antialias_of(self.model)
        backdrop = rendering.backdrop(len(self.model.images))
        rendered = []
        for number, seen in enumerate(cameras_of_each(objects, cameras)):
            matrices = seen.matrices(size)
            views = render_views(
                self.model.tuned(objects.tuned.get(number)),
                np.tile(objects.latents[number], (len(seen.cam_to_world), 1)),
                matrices,
                seen.cam_to_world,
                size,
                samples=rendering.samples,
                antialias=antialias,
                with_normals=with_normals,
            )
            if backdrop:
                views = backdrop.behind(views, self.model, matrices, seen.cam_to_world, antialias)
            rendered.append(views)
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
        objects = one_object(codes)
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
