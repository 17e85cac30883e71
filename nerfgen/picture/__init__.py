"""Pictures that people look at: contact sheets, and points and masks drawn over photographs."""

from nerfgen.picture.draw import draw_points, tint_mask
from nerfgen.picture.sheet import contact_sheet, save_picture

__all__ = ["contact_sheet", "draw_points", "save_picture", "tint_mask"]
