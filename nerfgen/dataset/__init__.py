"""Datasets of synthetic identities: rendered views of new objects with their ground truth."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.dataset.settings import DatasetSettings, PoseDistribution, parse_poses
    from nerfgen.dataset.stage import write_dataset

__getattr__ = lazy_imports(__name__)

__all__ = [
    "DatasetSettings",
    "PoseDistribution",
    "parse_poses",
    "write_dataset",
]
