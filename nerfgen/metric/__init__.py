"""Image, depth and camera metrics, and the judgement of a model against synthetic truth."""

from nerfgen.metric.camera import frame_rotation, rotation_errors
from nerfgen.metric.image import intersection_over_union, pearson, psnr
from nerfgen.metric.truth import (
    camera_errors,
    fitted_camera_errors,
    held_out_views,
    held_out_views_of,
    judge,
    judge_codes,
    judge_views,
)

__all__ = [
    "camera_errors",
    "fitted_camera_errors",
    "frame_rotation",
    "held_out_views",
    "held_out_views_of",
    "intersection_over_union",
    "judge",
    "judge_codes",
    "judge_views",
    "pearson",
    "psnr",
    "rotation_errors",
]
