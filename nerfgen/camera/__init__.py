"""The camera stage: least squares of 2D landmarks to canonical keypoints, and the framing that follows."""

from nerfgen.camera.canonical import Estimate, estimate_canonical
from nerfgen.camera.folder import fit_folder
from nerfgen.camera.joint import Joint, refine
from nerfgen.camera.solve import CameraFit, acceptable, solve_cameras

__all__ = [
    "CameraFit",
    "Estimate",
    "Joint",
    "acceptable",
    "estimate_canonical",
    "fit_folder",
    "refine",
    "solve_cameras",
]
