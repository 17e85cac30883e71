"""Surfaces: meshes of a model's objects, and their files."""

from nerfgen.surface.extract import Meshing, NoSurfaceError, Surface, extract_surface
from nerfgen.surface.mesh import Mesh
from nerfgen.surface.objects import object_surface, write_objects
from nerfgen.surface.write import (
    FORMATS,
    SCHEMA,
    check_mesh_name,
    is_current,
    linear_color,
    read_account,
    write_surface,
)

__all__ = [
    "FORMATS",
    "SCHEMA",
    "Mesh",
    "Meshing",
    "NoSurfaceError",
    "Surface",
    "check_mesh_name",
    "extract_surface",
    "is_current",
    "linear_color",
    "object_surface",
    "read_account",
    "write_objects",
    "write_surface",
]
