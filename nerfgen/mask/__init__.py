"""Foreground masks: segmenters, and the stage that runs one over a folder."""

from nerfgen.mask.methods import METHODS
from nerfgen.mask.place import mask_in_photo, write_photo_masks
from nerfgen.mask.segmenter import Segmentation, Segmenter
from nerfgen.mask.stage import segment_folder

__all__ = [
    "METHODS",
    "Segmentation",
    "Segmenter",
    "mask_in_photo",
    "segment_folder",
    "write_photo_masks",
]
