"""Pictures that people look at: contact sheets, videos, and points and masks drawn over photographs."""

from nerfgen.picture.draw import draw_points, shade_depth, tint_mask
from nerfgen.picture.sheet import contact_sheet, save_picture
from nerfgen.picture.video import save_video

__all__ = ["contact_sheet", "draw_points", "save_picture", "save_video", "shade_depth", "tint_mask"]
