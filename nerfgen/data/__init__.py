"""Framed images, their pixels, and the batches that a step sees. Never knows an engine."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.data.batch import (
        Batch,
        Patches,
        PatchPlan,
        PixelTable,
        SamplingPlan,
        add_patches,
        gather_batch,
        gather_patches,
        sample_corners,
        sample_indices,
    )
    from nerfgen.data.framing import (
        FramedImages,
        ImageListing,
        frame_mask,
        list_images,
        load_framed,
    )
    from nerfgen.data.pixel_cache import PixelCache, cache_name, join_pixel_cache, open_pixel_cache
    from nerfgen.data.readers import BatchSource, choose_placement, framed_pixels, pixel_bytes
    from nerfgen.data.rows import BaseModel, TableRows, separate_rows, table_rows
    from nerfgen.data.stage import frame_folder

__getattr__ = lazy_imports(__name__)

__all__ = [
    "BaseModel",
    "Batch",
    "BatchSource",
    "FramedImages",
    "ImageListing",
    "PatchPlan",
    "Patches",
    "PixelCache",
    "PixelTable",
    "SamplingPlan",
    "TableRows",
    "add_patches",
    "cache_name",
    "choose_placement",
    "frame_folder",
    "frame_mask",
    "framed_pixels",
    "gather_batch",
    "gather_patches",
    "join_pixel_cache",
    "list_images",
    "load_framed",
    "open_pixel_cache",
    "pixel_bytes",
    "sample_corners",
    "sample_indices",
    "separate_rows",
    "table_rows",
]
