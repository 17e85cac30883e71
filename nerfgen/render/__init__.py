"""Views, depth and normals of latent codes from cameras."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.render.backdrop import Backdrop, find_backdrop
    from nerfgen.render.depth_ratio import FLAT, non_flatness, training_non_flatness
    from nerfgen.render.figures import (
        framed_image,
        input_images,
        png_pixels,
        preview_sheet,
        save_pngs,
        shared_limits,
        show,
        video_frames,
        views_sheet,
    )
    from nerfgen.render.object_renderer import ObjectRenderer
    from nerfgen.render.settings import KINDS, MAX_SAMPLES, ChosenCameras, Kind, RenderSettings, ViewCameras
    from nerfgen.render.stage import Seen, render_to_file, write_views
    from nerfgen.render.view_files import ViewFiles
    from nerfgen.render.views import (
        Part,
        Views,
        part_steps,
        render_views,
        require_views,
        samples_of,
        surface_depths,
        to_uint8,
        together,
    )

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FLAT",
    "KINDS",
    "MAX_SAMPLES",
    "Backdrop",
    "ChosenCameras",
    "Kind",
    "ObjectRenderer",
    "Part",
    "RenderSettings",
    "Seen",
    "ViewCameras",
    "ViewFiles",
    "Views",
    "find_backdrop",
    "framed_image",
    "input_images",
    "non_flatness",
    "part_steps",
    "png_pixels",
    "preview_sheet",
    "render_to_file",
    "render_views",
    "require_views",
    "samples_of",
    "save_pngs",
    "shared_limits",
    "show",
    "surface_depths",
    "to_uint8",
    "together",
    "training_non_flatness",
    "video_frames",
    "views_sheet",
    "write_views",
]
