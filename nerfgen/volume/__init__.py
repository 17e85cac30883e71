"""Ray bounds, sampling, compositing and the occupancy grid. Knows no network."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.volume.compositing import (
        RadianceField,
        RayColors,
        composite,
        compositing_weights,
        volume_render,
    )
    from nerfgen.volume.losses import hard_surface, training_losses
    from nerfgen.volume.occupancy import cell_centers, dilate, update_occupancy, visual_hull
    from nerfgen.volume.sampling import (
        HalfExtents,
        Samples,
        box_bounds,
        occupancy_samples,
        sample_grid,
        stratified_samples,
    )
    from nerfgen.volume.surface_sampling import PARTS, estimated_weights, surface_samples

__getattr__ = lazy_imports(__name__)

__all__ = [
    "PARTS",
    "HalfExtents",
    "RadianceField",
    "RayColors",
    "Samples",
    "box_bounds",
    "cell_centers",
    "composite",
    "compositing_weights",
    "dilate",
    "estimated_weights",
    "hard_surface",
    "occupancy_samples",
    "sample_grid",
    "stratified_samples",
    "surface_samples",
    "training_losses",
    "update_occupancy",
    "visual_hull",
    "volume_render",
]
