"""Ray bounds, sampling, compositing and the occupancy grid. Knows no network."""

from nerfgen.volume.composite import RayColors, composite
from nerfgen.volume.occupancy import cell_centers, refreshed, visual_hull, widened
from nerfgen.volume.render import Foreground, render_rays
from nerfgen.volume.sampling import HalfEdges, Samples, box_bounds, guided, look_up, stratified
from nerfgen.volume.surface_samples import PARTS, estimated_weights, surface_samples

__all__ = [
    "PARTS",
    "Foreground",
    "HalfEdges",
    "RayColors",
    "Samples",
    "box_bounds",
    "cell_centers",
    "composite",
    "estimated_weights",
    "guided",
    "look_up",
    "refreshed",
    "render_rays",
    "stratified",
    "surface_samples",
    "visual_hull",
    "widened",
]
