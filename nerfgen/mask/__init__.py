"""Foreground masks: segmenters, and the stage that runs one over a folder."""

from nerfgen.mask.methods import METHOD_NAMES, METHODS, Choice, Settings
from nerfgen.mask.place import mask_in_photo, write_photo_masks
from nerfgen.mask.segmenter import Scene, Segmentation, Segmenter
from nerfgen.mask.stage import segment_folder

__all__ = [
    "METHODS",
    "METHOD_NAMES",
    "Choice",
    "Scene",
    "Segmentation",
    "Segmenter",
    "Settings",
    "mask_in_photo",
    "segment_folder",
    "write_photo_masks",
]
