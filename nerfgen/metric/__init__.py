"""Image, depth and camera metrics, and the judgement of a model against synthetic truth."""

from nerfgen.metric.camera import rotation_errors
from nerfgen.metric.image import intersection_over_union, pearson, psnr
from nerfgen.metric.truth import camera_errors, held_out_views, judge, judge_views

__all__ = [
    "camera_errors",
    "held_out_views",
    "intersection_over_union",
    "judge",
    "judge_views",
    "pearson",
    "psnr",
    "rotation_errors",
]
