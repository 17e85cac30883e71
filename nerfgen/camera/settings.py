"""How cameras are fitted: the settings of the stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nerfgen.settings import MAX_WEIGHT, SettingError, Settings, setting

Intrinsics = Literal["fixed", "shared", "per-image"]
Points = Literal["mesh", "landmarks"]


@dataclass(frozen=True)
class CameraSettings(Settings, title="Cameras"):
    """How cameras are fitted to landmarks."""

    intrinsics: Intrinsics = setting(
        "fixed",
        help="Focal lengths. [bold]fixed[/bold]: all are given. [bold]shared[/bold]: one factor for all images is "
        "estimated. [bold]per-image[/bold]: one each is estimated, with a prior (one face hardly determines it).",
    )
    focal: float | None = setting(
        None,
        minimum=0.1,
        maximum=1000.0,
        help="Focal length in units of an image's longer side.",
        default_text="that of the class",
    )
    points: Points = setting(
        "mesh",
        help="Fit to the dense mesh where the landmark estimator gives one, or to the class's landmarks.",
    )
    depth_weight: float = setting(
        1.0,
        minimum=0.0,
        maximum=MAX_WEIGHT,
        help="Weight of the mesh's relative depths against its pixels; 0 fits to the pixels alone.",
    )
    estimate_canonical: bool = setting(
        False,
        help="Estimate the canonical keypoints together with all cameras from the landmarks alone, as is always done "
        "for classes without canonical keypoints. Needs at least 10 images from different directions.",
    )
    refine_canonical: bool = setting(
        False, help="First re-estimate the canonical keypoints of the class together with all cameras."
    )
    robust: float = setting(
        0.05,
        minimum=1e-4,
        maximum=1000.0,
        help="Scale of the Huber loss, in units of the landmarks' spread in the image.",
    )
    max_error: float = setting(
        0.3,
        minimum=0.0,
        maximum=1000.0,
        help="Largest accepted reprojection error, in units of the landmarks' spread.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimate_canonical and self.refine_canonical:
            raise SettingError(
                "`estimate_canonical` excludes `refine_canonical`: estimated keypoints need no refinement"
            )
