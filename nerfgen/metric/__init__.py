"""Metrics of images, depth, cameras and distributions: arrays in, estimates with confidence intervals out."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.metric.camera_error import (
        frame_rotation,
        frame_similarity,
        reprojection_errors,
        rotation_errors,
        translation_errors,
    )
    from nerfgen.metric.depth_error import (
        PooledCorrelation,
        SummedCorrelation,
        angles_between,
        depth_normals,
        pearson,
        spearman,
    )
    from nerfgen.metric.distribution import (
        Coverage,
        FrechetDistance,
        InceptionScore,
        KernelDistance,
        covered_points,
        frechet_distance,
        inception_score,
        kernel_distance,
    )
    from nerfgen.metric.estimate import RESAMPLES, Estimate, Mean, Median, Metric, bootstrap
    from nerfgen.metric.feature_networks import (
        MIN_PERCEPTUAL_SIZE,
        ImageFeatures,
        Inception,
        Perceptual,
        available_networks,
    )
    from nerfgen.metric.image_quality import intersection_over_union, match_exposure, psnr, ssim

__getattr__ = lazy_imports(__name__)

__all__ = [
    "MIN_PERCEPTUAL_SIZE",
    "RESAMPLES",
    "Coverage",
    "Estimate",
    "FrechetDistance",
    "ImageFeatures",
    "Inception",
    "InceptionScore",
    "KernelDistance",
    "Mean",
    "Median",
    "Metric",
    "Perceptual",
    "PooledCorrelation",
    "SummedCorrelation",
    "angles_between",
    "available_networks",
    "bootstrap",
    "covered_points",
    "depth_normals",
    "frame_rotation",
    "frame_similarity",
    "frechet_distance",
    "inception_score",
    "intersection_over_union",
    "kernel_distance",
    "match_exposure",
    "pearson",
    "psnr",
    "reprojection_errors",
    "rotation_errors",
    "spearman",
    "ssim",
    "translation_errors",
]
