"""Pinhole cameras, poses, rays and camera paths. Reads no files."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.geometry.camera import (
        OPENGL_AXES,
        Cameras,
        array_namespace,
        evenly_chosen,
        intrinsic_matrix,
        keypoint_displacement,
        matmul,
        optical_axis,
        pixel_centers,
        pixel_rays,
        project,
        sphere_window,
        window_intrinsics,
    )
    from nerfgen.geometry.path import (
        angle_grid,
        camera_at,
        field_intrinsics,
        field_of_view,
        framing_intrinsics,
        orbit_angles,
        pose_at,
        turned_cameras,
        turned_views,
    )
    from nerfgen.geometry.pose import (
        FRONTAL_ROTATION,
        aimed_at_origin,
        corrected_cameras,
        invert_rigid,
        rigid,
        rotation_angle,
        rotation_from_vector,
        similarity_between,
        skew,
        turned_camera,
        with_focal,
        yaw_pitch_roll,
    )

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FRONTAL_ROTATION",
    "OPENGL_AXES",
    "Cameras",
    "aimed_at_origin",
    "angle_grid",
    "array_namespace",
    "camera_at",
    "corrected_cameras",
    "evenly_chosen",
    "field_intrinsics",
    "field_of_view",
    "framing_intrinsics",
    "intrinsic_matrix",
    "invert_rigid",
    "keypoint_displacement",
    "matmul",
    "optical_axis",
    "orbit_angles",
    "pixel_centers",
    "pixel_rays",
    "pose_at",
    "project",
    "rigid",
    "rotation_angle",
    "rotation_from_vector",
    "similarity_between",
    "skew",
    "sphere_window",
    "turned_camera",
    "turned_cameras",
    "turned_views",
    "window_intrinsics",
    "with_focal",
    "yaw_pitch_roll",
]
