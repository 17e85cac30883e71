"""Image, depth, camera and distribution metrics: arrays in, figures out."""

from nerfgen.metric.camera import frame_rotation, rotation_errors, translation_errors
from nerfgen.metric.correlation import PooledCorrelation, pearson, spearman
from nerfgen.metric.distribution import Coverage, FrechetDistance, InceptionScore, KernelDistance
from nerfgen.metric.estimate import Estimate, Mean, Metric, bootstrap
from nerfgen.metric.image import intersection_over_union, psnr, ssim
from nerfgen.metric.normals import angles_between, depth_normals

__all__ = [
    "Coverage",
    "Estimate",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "Mean",
    "Metric",
    "PooledCorrelation",
    "angles_between",
    "bootstrap",
    "depth_normals",
    "frame_rotation",
    "intersection_over_union",
    "pearson",
    "psnr",
    "rotation_errors",
    "spearman",
    "ssim",
    "translation_errors",
]
