"""Meshes of a model's objects, and their files."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.mesh.isosurface import Mesh, NoSurfaceError, Surface, extract_surface
    from nerfgen.mesh.mesh_file import (
        FORMATS,
        MESH_SCHEMA,
        SCHEMA,
        check_mesh_name,
        is_current,
        linear_color,
        read_provenance,
        surface_bytes,
        write_surface,
    )
    from nerfgen.mesh.settings import MeshSettings
    from nerfgen.mesh.stage import object_surface, write_objects

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FORMATS",
    "MESH_SCHEMA",
    "SCHEMA",
    "Mesh",
    "MeshSettings",
    "NoSurfaceError",
    "Surface",
    "check_mesh_name",
    "extract_surface",
    "is_current",
    "linear_color",
    "object_surface",
    "read_provenance",
    "surface_bytes",
    "write_objects",
    "write_surface",
]
