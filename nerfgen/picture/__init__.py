"""Pictures that people look at: contact sheets, videos, and points and masks drawn over photographs."""

from nerfgen.picture.depth import DEPTH_STEP, decode_depth, encode_depth
from nerfgen.picture.draw import draw_points, shade_depth, tint_mask
from nerfgen.picture.sheet import contact_sheet, save_picture
from nerfgen.picture.video import save_video

__all__ = [
    "DEPTH_STEP",
    "contact_sheet",
    "decode_depth",
    "draw_points",
    "encode_depth",
    "save_picture",
    "save_video",
    "shade_depth",
    "tint_mask",
]
