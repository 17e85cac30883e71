"""Meshes as GLB, PLY and OBJ files with their provenance."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import UInt8, UInt16

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.mesh.isosurface import Mesh, Surface
from nerfgen.untrusted import open_input, parse_json

if TYPE_CHECKING:
    import trimesh

MESH_SCHEMA = "mesh/1"
SCHEMA = storage.Schema(
    MESH_SCHEMA,
    "the surface of an object (`nerfgen export`)",
    (),
    {"surface": storage.Attribute("object", "level, parts, number of vertices and faces, watertight or not")},
)

# Colours include the light of the images: a viewer should show them unlit, and from both sides, because a surface may
# be open. Viewers without the extension show a rough, non-metallic material.
_MATERIAL = {
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9},
    "doubleSided": True,
    "extensions": {"KHR_materials_unlit": {}},
}
_DIGITS = 6
# Provenance is written as JSON, which has no line breaks, in comments of lines that every reader takes.
_MARK, _LINE = b"nerfgen ", 800
# Limits of what is read: bytes of a line, and of all lines before the geometry or of the JSON of a GLB file.
_LONGEST_LINE, _MOST_BYTES = 4096, 1 << 24
_JSON = {"parameters": dict, "inputs": list, "surface": dict}


def check_mesh_name(path: Path) -> None:
    """Raise :class:`InputError` if the suffix of a name is not one of ``FORMATS``."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: the name of a mesh ends in {', '.join(FORMATS)}")


def write_surface(stage: storage.Stage, surface: Surface) -> None:
    """Write a mesh whole or not at all; the format follows the suffix.

    The file carries the root attributes of all nerfgen files, and ``surface``: JSON of level, parts, counts of vertices
    and faces, and whether it is watertight. Equal meshes and stages give equal bytes.

    Raises:
        InputError: the suffix is not one of ``FORMATS``.
    """
    data = surface_bytes(stage, surface)
    with storage.atomic_path(stage.output) as temporary:
        temporary.write_bytes(data)


def surface_bytes(stage: storage.Stage, surface: Surface) -> bytes:
    """The content of the file that :func:`write_surface` writes."""
    path = stage.output
    check_mesh_name(path)
    mesh = surface.mesh
    found = {
        "level": round(surface.level, 4),
        "parts": surface.parts,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": mesh.watertight,
    }
    provenance = stage.attributes() | {"surface": json.dumps(found, sort_keys=True)}
    encode, _ = FORMATS[path.suffix.lower()]
    return encode(mesh, provenance)


def is_current(stage: storage.Stage, *, overwrite: bool = False) -> bool:
    """Whether the stage's mesh file already holds exactly this mesh, so that it is kept.

    Raises:
        OutputExistsError: another file stands there; the message names the first difference.
    """

    def read(path: Path) -> dict[str, str]:
        try:
            return read_provenance(path)
        except InputError:
            return {}

    return stage.is_current(overwrite=overwrite, read=read)


def read_provenance(path: Path) -> dict[str, str]:
    """Provenance of a mesh file, see :func:`write_surface`; empty for files that nerfgen did not write.

    Raises:
        InputError: the suffix is not one of ``FORMATS``, or the file is not of its format.
    """
    check_mesh_name(path)
    _, read = FORMATS[path.suffix.lower()]
    try:
        with open_input(path) as stream:
            found = read(stream, path)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a readable {path.suffix} file ({error}); re-create it") from error
    if found.get("nerfgen_schema") != MESH_SCHEMA:
        return {}
    own = {name: found[name] for name in (*storage.ROOT_ATTRIBUTES, "surface") if name in found}
    for name, value in own.items():
        if not isinstance(value, str) or not isinstance(
            parse_json(value, f"{path}: {name}") if name in _JSON else value, _JSON.get(name, str)
        ):
            raise InputError(f"{path}: its {name} is damaged; re-create it")
    return own


def _solid(mesh: Mesh, **visual: Any) -> trimesh.Trimesh:
    import trimesh

    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False, **visual)


def _glb(mesh: Mesh, provenance: dict[str, str]) -> bytes:
    from trimesh.exchange.gltf import export_glb

    # The exporter writes colours of 8 bits unchanged, but glTF colours are linear, for which 8 bits are too few in the
    # dark: they are passed as a custom attribute and moved to COLOR_0 afterwards.
    opaque = np.full((len(mesh.colors), 1), 2**16 - 1, np.uint16)
    linear = np.concatenate([linear_color(mesh.colors), opaque], axis=-1)

    def finish(tree: dict[str, Any]) -> None:
        (primitive,) = tree["meshes"][0]["primitives"]
        colors = primitive["attributes"].pop("_LINEAR")
        tree["accessors"][colors]["normalized"] = True
        primitive["attributes"]["COLOR_0"] = colors
        primitive["material"] = 0
        tree["materials"] = [_MATERIAL]
        tree["extensionsUsed"] = ["KHR_materials_unlit"]
        tree["asset"]["extras"] = provenance

    solid = _solid(mesh, vertex_attributes={"_LINEAR": linear})
    return export_glb(solid, include_normals=True, tree_postprocessor=finish)


def _read_glb(stream: BinaryIO, path: Path) -> dict[str, Any]:
    header = stream.read(20)
    if len(header) < 20 or header[:4] != b"glTF" or header[16:] != b"JSON":
        raise ValueError("not a glTF file")
    size = int.from_bytes(header[12:16], "little")
    if size > _MOST_BYTES:
        raise ValueError(f"its description has {size:,} bytes")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it is truncated")
    tree = parse_json(content.decode(), path)
    extras = tree["asset"].get("extras") if isinstance(tree["asset"], dict) else None
    return extras if isinstance(extras, dict) else {}


def _ply(mesh: Mesh, provenance: dict[str, str]) -> bytes:
    from trimesh.exchange.ply import export_ply

    data = export_ply(_solid(mesh, vertex_colors=mesh.colors), vertex_normal=True)
    before, elements, after = data.partition(b"element ")
    return before + b"".join(f"comment {line}\n".encode() for line in _lines(provenance)) + elements + after


def _obj(mesh: Mesh, provenance: dict[str, str]) -> bytes:
    from trimesh.exchange.obj import export_obj

    solid = _solid(mesh, vertex_colors=mesh.colors)
    return export_obj(
        solid, include_normals=True, digits=_DIGITS, header="\n# ".join(_lines(provenance))
    ).encode()


def _lines(provenance: dict[str, str]) -> list[str]:
    text = json.dumps(provenance)
    return [_MARK.decode() + text[start : start + _LINE] for start in range(0, len(text), _LINE)]


def _read_comments(prefix: bytes, stream: BinaryIO, path: Path) -> dict[str, Any]:
    """Provenance in the comments before the geometry of a text file, or of a binary file with a text header."""
    parts: list[bytes] = []
    # Files of earlier versions have a comment for each name and value.
    earlier: dict[str, str] = {}
    while stream.tell() < _MOST_BYTES and (line := stream.readline(_LONGEST_LINE)):
        comment = line.rstrip(b"\r\n").removeprefix(prefix)
        if comment.startswith(_MARK):
            parts.append(comment.removeprefix(_MARK))
        elif line.startswith(prefix):
            name, _, value = comment.decode(errors="replace").partition(" ")
            earlier[name] = value
        elif parts or stream.tell() > _LONGEST_LINE:
            break
    found = parse_json(b"".join(parts).decode(), path) if parts else earlier
    return found if isinstance(found, dict) else {}


def linear_color(colors: UInt8[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """sRGB of 8 bits as linear colour of 16 bits (IEC 61966-2-1)."""
    value = colors / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.round(linear * (2**16 - 1)).astype(np.uint16)


_Write = Callable[[Mesh, dict[str, str]], bytes]
_Read = Callable[[BinaryIO, Path], dict[str, Any]]
# By suffix: the writer of a format, and the reader of its provenance.
FORMATS: dict[str, tuple[_Write, _Read]] = {
    ".glb": (_glb, _read_glb),
    ".ply": (_ply, partial(_read_comments, b"comment ")),
    ".obj": (_obj, partial(_read_comments, b"# ")),
}
