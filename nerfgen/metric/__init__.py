"""Image, depth, camera and distribution metrics: arrays in, figures out."""

from nerfgen.metric.camera import frame_rotation, rotation_errors
from nerfgen.metric.estimate import Estimate, Mean, Metric, bootstrap
from nerfgen.metric.image import intersection_over_union, pearson, psnr

__all__ = [
    "Estimate",
    "Mean",
    "Metric",
    "bootstrap",
    "frame_rotation",
    "intersection_over_union",
    "pearson",
    "psnr",
    "rotation_errors",
]
