"""The camera stage: least squares of 2D landmarks to canonical keypoints, and the framing that follows."""

from nerfgen.camera.folder import acceptable, fit_folder
from nerfgen.camera.joint import Joint, refine
from nerfgen.camera.solve import CameraFit, solve_cameras

__all__ = ["CameraFit", "Joint", "acceptable", "fit_folder", "refine", "solve_cameras"]
