"""Exchange with other programs: cameras, masks and landmarks in their formats, one module per format."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.interchange.camera_export import export_cameras
    from nerfgen.interchange.camera_import import import_cameras
    from nerfgen.interchange.camera_path import CameraPath, read_camera_path, write_camera_path
    from nerfgen.interchange.formats import FORMATS, default_front, detect_format
    from nerfgen.interchange.landmark_import import import_landmarks
    from nerfgen.interchange.posed_images import PosedImages
    from nerfgen.interchange.settings import CAMERA_FORMATS, ExportSettings, ImportSettings, WorldAlignment
    from nerfgen.interchange.world_axes import axes_rotation

__getattr__ = lazy_imports(__name__)

__all__ = [
    "CAMERA_FORMATS",
    "FORMATS",
    "CameraPath",
    "ExportSettings",
    "ImportSettings",
    "PosedImages",
    "WorldAlignment",
    "axes_rotation",
    "default_front",
    "detect_format",
    "export_cameras",
    "import_cameras",
    "import_landmarks",
    "read_camera_path",
    "write_camera_path",
]
