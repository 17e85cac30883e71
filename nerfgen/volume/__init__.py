"""Ray bounds, sampling, compositing and the occupancy grid. Knows no network."""

from nerfgen.volume.composite import RayColors, composite
from nerfgen.volume.occupancy import refreshed, visual_hull, widened
from nerfgen.volume.render import Foreground, render_rays
from nerfgen.volume.sampling import HalfEdges, Samples, box_bounds, guided, look_up, stratified

__all__ = [
    "Foreground",
    "HalfEdges",
    "RayColors",
    "Samples",
    "box_bounds",
    "composite",
    "guided",
    "look_up",
    "refreshed",
    "render_rays",
    "stratified",
    "visual_hull",
    "widened",
]
