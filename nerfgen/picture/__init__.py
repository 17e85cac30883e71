"""Pictures that people look at: contact sheets, videos, and what is drawn over photographs or shown as colours."""

from nerfgen.picture.draw import (
    color_normals,
    depth_limits,
    draw_points,
    over_white,
    shade_depth,
    shade_opacity,
    tint_mask,
)
from nerfgen.picture.save import (
    DEPTH_LEVELS,
    DEPTH_TEXT,
    FARTHEST,
    check_picture_name,
    depth_levels,
    png_bytes,
    save_picture,
)
from nerfgen.picture.sheet import contact_sheet
from nerfgen.picture.video import check_video_name, save_video

__all__ = [
    "DEPTH_LEVELS",
    "DEPTH_TEXT",
    "FARTHEST",
    "check_picture_name",
    "check_video_name",
    "color_normals",
    "contact_sheet",
    "depth_levels",
    "depth_limits",
    "draw_points",
    "over_white",
    "png_bytes",
    "save_picture",
    "save_video",
    "shade_depth",
    "shade_opacity",
    "tint_mask",
]
