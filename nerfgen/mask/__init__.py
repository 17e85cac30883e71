"""Foreground masks: segmenters, and the stage that runs one over images.

A :class:`Segmenter` separates foreground from background in a :class:`SegmentationRequest`, an image and what is known
of the object in it; what it finds is a :class:`Segmentation`. :class:`MaskSettings` and a class make a
:class:`SegmenterSpec`, a value that is sent to workers and built there. :func:`segment_image` is the stage for one
image in memory, :func:`map_masks` for many, and :func:`segment_folder` for a folder.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.mask.figure import mask_figure, whole_image_mask, write_png_masks
    from nerfgen.mask.given_masks import mask_digest, read_mask
    from nerfgen.mask.methods import METHODS, SegmenterSpec
    from nerfgen.mask.segmenter import Segmentation, SegmentationRequest, Segmenter
    from nerfgen.mask.settings import METHOD_NAMES, MaskSettings, recorded_settings
    from nerfgen.mask.stage import map_masks, segment_folder, segment_image

__getattr__ = lazy_imports(__name__)

__all__ = [
    "METHODS",
    "METHOD_NAMES",
    "MaskSettings",
    "Segmentation",
    "SegmentationRequest",
    "Segmenter",
    "SegmenterSpec",
    "map_masks",
    "mask_digest",
    "mask_figure",
    "read_mask",
    "recorded_settings",
    "segment_folder",
    "segment_image",
    "whole_image_mask",
    "write_png_masks",
]
