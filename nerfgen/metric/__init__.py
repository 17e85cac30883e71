"""Image, depth, camera and distribution metrics: arrays in, figures out."""

from nerfgen.metric.camera import frame_rotation, frame_similarity, rotation_errors, translation_errors
from nerfgen.metric.correlation import PooledCorrelation, pearson, spearman
from nerfgen.metric.distribution import (
    Coverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    covered,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from nerfgen.metric.estimate import Estimate, Mean, Metric, bootstrap
from nerfgen.metric.image import intersection_over_union, psnr, ssim
from nerfgen.metric.normals import angles_between, depth_normals
from nerfgen.metric.pretrained import Inception, Perceptual

__all__ = [
    "Coverage",
    "Estimate",
    "FrechetDistance",
    "Inception",
    "InceptionScore",
    "KernelDistance",
    "Mean",
    "Metric",
    "Perceptual",
    "PooledCorrelation",
    "angles_between",
    "bootstrap",
    "covered",
    "depth_normals",
    "frame_rotation",
    "frame_similarity",
    "frechet_distance",
    "inception_score",
    "intersection_over_union",
    "kernel_distance",
    "pearson",
    "psnr",
    "rotation_errors",
    "spearman",
    "ssim",
    "translation_errors",
]
