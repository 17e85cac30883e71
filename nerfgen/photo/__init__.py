"""Photographs: finding them, decoding them upright, and framing an object in them."""

from nerfgen.photo.decode import MAX_PIXELS, Photograph, UnreadableImageError, decode, decode_alpha
from nerfgen.photo.find import EXTENSIONS, digest_images, find_images, is_image
from nerfgen.photo.frame import inside_photo, resample_window

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "Photograph",
    "UnreadableImageError",
    "decode",
    "decode_alpha",
    "digest_images",
    "find_images",
    "inside_photo",
    "is_image",
    "resample_window",
]
