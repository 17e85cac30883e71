"""Ray bounds, sampling, compositing and the occupancy grid. Knows no network."""

from nerfgen.volume.composite import RayColors, composite
from nerfgen.volume.occupancy import refreshed, visual_hull, widened
from nerfgen.volume.render import Foreground, render_rays
from nerfgen.volume.sampling import Samples, cube_bounds, guided, look_up, stratified

__all__ = [
    "Foreground",
    "RayColors",
    "Samples",
    "composite",
    "cube_bounds",
    "guided",
    "look_up",
    "refreshed",
    "render_rays",
    "stratified",
    "visual_hull",
    "widened",
]
