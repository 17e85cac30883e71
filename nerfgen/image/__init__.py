"""Images: finding, decoding and framing inputs; figures; PNG and video outputs."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.image.decoding import MAX_DECODED, MAX_PIXELS
    from nerfgen.image.draw import (
        GREEN,
        RED,
        color_normals,
        composite_over_white,
        contact_sheet,
        depth_limits,
        draw_points,
        shade_depth,
        shade_opacity,
        tint_mask,
    )
    from nerfgen.image.encode import (
        DEPTH_LEVELS,
        DEPTH_TEXT,
        MAX_DEPTH,
        check_image_name,
        check_video_name,
        depth_levels,
        is_figure,
        jpeg_bytes,
        png_bytes,
        save_image,
        save_video,
    )
    from nerfgen.image.files import digest_images, existing_images, find_images, match_names, possibly_changed
    from nerfgen.image.input_image import InputImage, decode, decode_alpha
    from nerfgen.image.names import EXTENSIONS, is_image, path_inside
    from nerfgen.image.store import ImageFolder, ImageStore, StoreError, image_folder, local_folder
    from nerfgen.image.unreadable import UnreadableImageError
    from nerfgen.image.window import inside_image, resample_window

__getattr__ = lazy_imports(__name__)

__all__ = [
    "DEPTH_LEVELS",
    "DEPTH_TEXT",
    "EXTENSIONS",
    "GREEN",
    "MAX_DECODED",
    "MAX_DEPTH",
    "MAX_PIXELS",
    "RED",
    "ImageFolder",
    "ImageStore",
    "InputImage",
    "StoreError",
    "UnreadableImageError",
    "check_image_name",
    "check_video_name",
    "color_normals",
    "composite_over_white",
    "contact_sheet",
    "decode",
    "decode_alpha",
    "depth_levels",
    "depth_limits",
    "digest_images",
    "draw_points",
    "existing_images",
    "find_images",
    "image_folder",
    "inside_image",
    "is_figure",
    "is_image",
    "jpeg_bytes",
    "local_folder",
    "match_names",
    "path_inside",
    "png_bytes",
    "possibly_changed",
    "resample_window",
    "save_image",
    "save_video",
    "shade_depth",
    "shade_opacity",
    "tint_mask",
]
