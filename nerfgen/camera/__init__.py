"""The camera stage: least squares of 2D landmarks to canonical keypoints, and the framing that follows.

:func:`observe` takes landmarks of images in memory, :func:`fit_cameras` gives their cameras and windows, and
:func:`fit_folder` does both for a folder's files.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.camera.canonical import CanonicalEstimate, estimate_canonical
    from nerfgen.camera.figure import camera_cell, camera_figure
    from nerfgen.camera.fitting import FittedCameras, fit_cameras
    from nerfgen.camera.joint import JointFit, refine
    from nerfgen.camera.observations import Observations, observe, read_observations, with_canonical
    from nerfgen.camera.settings import CameraSettings
    from nerfgen.camera.solve import CameraFit, acceptable, solve_cameras
    from nerfgen.camera.stage import fit_folder

__getattr__ = lazy_imports(__name__)

__all__ = [
    "CameraFit",
    "CameraSettings",
    "CanonicalEstimate",
    "FittedCameras",
    "JointFit",
    "Observations",
    "acceptable",
    "camera_cell",
    "camera_figure",
    "estimate_canonical",
    "fit_cameras",
    "fit_folder",
    "observe",
    "read_observations",
    "refine",
    "solve_cameras",
    "with_canonical",
]
