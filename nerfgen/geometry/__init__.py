"""Pinhole cameras, poses, rays and camera paths. Reads no files."""

from nerfgen.geometry.camera import (
    Cameras,
    intrinsic_matrix,
    optical_axis,
    pixel_centers,
    pixel_rays,
    project,
    sphere_window,
    window_intrinsics,
)
from nerfgen.geometry.pose import (
    FRONTAL_ROTATION,
    aimed_at_origin,
    invert_rigid,
    rigid,
    rotation_angle,
    rotation_from_vector,
    similarity_between,
    skew,
    turned_camera,
    yaw_pitch_roll,
)

__all__ = [
    "FRONTAL_ROTATION",
    "Cameras",
    "aimed_at_origin",
    "intrinsic_matrix",
    "invert_rigid",
    "optical_axis",
    "pixel_centers",
    "pixel_rays",
    "project",
    "rigid",
    "rotation_angle",
    "rotation_from_vector",
    "similarity_between",
    "skew",
    "sphere_window",
    "turned_camera",
    "window_intrinsics",
    "yaw_pitch_roll",
]
