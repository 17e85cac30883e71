"""Meshes as GLB, PLY and OBJ files, which say in themselves how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8, UInt16

import nerfgen
from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.objectclass import object_class
from nerfgen.surface.extract import Surface
from nerfgen.surface.mesh import Mesh

if TYPE_CHECKING:
    import trimesh

SCHEMA = "mesh/1"

# Colours hold the light of the photographs already: a viewer shows them as they are, and from both sides, because a
# surface may be open. Viewers that don't know the extension see a rough, non-metallic material.
_MATERIAL = {
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9},
    "doubleSided": True,
    "extensions": {"KHR_materials_unlit": {}},
}
_DIGITS = 6
# Bytes within which the comments at the beginning of a file end.
_HEAD = 1 << 16


def check_mesh_name(path: Path) -> None:
    """Whether a mesh can be written under that name.

    Raises:
        InputError: its suffix is not one of ``FORMATS``.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a mesh's name ends in {', '.join(FORMATS)}")


def write_surface(path: Path, surface: Surface, about: artifact.About) -> None:
    """Write a mesh whole or not at all; the format follows the suffix.

    The file carries the root attributes of all nerfgen files, and ``surface``: JSON of level, parts, counts of vertices
    and faces, and whether it is watertight. Equal meshes and accounts give equal bytes.

    Raises:
        InputError: the suffix is not one of ``FORMATS``.
    """
    check_mesh_name(path)
    mesh = surface.mesh
    found = {
        "level": round(surface.level, 4),
        "parts": surface.parts,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "watertight": mesh.watertight,
    }
    described = object_class(about["object_class"])
    account = {
        "nerfgen_schema": SCHEMA,
        "nerfgen_version": nerfgen.__version__,
        "class": described.name,
        "class_description": described.text,
        "parameters": json.dumps(about["parameters"], sort_keys=True),
        "inputs": json.dumps(about["inputs"], sort_keys=True),
        "surface": json.dumps(found, sort_keys=True),
    }
    written, _ = FORMATS[path.suffix.lower()]
    data = written(mesh, account)
    with artifact.atomic_path(path) as temporary:
        temporary.write_bytes(data)


def is_current(path: Path, about: artifact.About, *, overwrite: bool = False) -> bool:
    """Whether a mesh file already holds exactly this mesh, so that it is kept.

    Raises:
        OutputExistsError: another file stands there; the message names the first difference.
    """
    if overwrite or not path.exists():
        return False
    try:
        found = read_account(path)
    except InputError:
        found = {}
    artifact.check_origin(path, found, SCHEMA, **about)
    return True


def read_account(path: Path) -> dict[str, str]:
    """What a mesh file says of its making: see :func:`write_surface`. Empty for files that nerfgen did not write.

    Raises:
        InputError: the suffix is not one of ``FORMATS``, or the file is none of that format.
    """
    check_mesh_name(path)
    _, read = FORMATS[path.suffix.lower()]
    try:
        found = read(path)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no readable {path.suffix} file ({error}); make it anew") from error
    if found.get("nerfgen_schema") != SCHEMA:
        return {}
    return {name: found[name] for name in (*artifact.ROOT_ATTRIBUTES, "surface") if name in found}


def _solid(mesh: Mesh, **visual: Any) -> trimesh.Trimesh:
    import trimesh

    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False, **visual)


def _glb(mesh: Mesh, account: dict[str, str]) -> bytes:
    from trimesh.exchange.gltf import export_glb

    # The exporter writes colours of 8 bits as it gets them, but glTF wants them linear, for which 8 bits are too few
    # in the dark: they go in as an attribute of our own and are given their place afterwards.
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
        tree["asset"]["extras"] = account

    solid = _solid(mesh, vertex_attributes={"_LINEAR": linear})
    return export_glb(solid, include_normals=True, tree_postprocessor=finish)


def _read_glb(path: Path) -> dict[str, str]:
    with open(path, "rb") as stream:
        header = stream.read(20)
        if header[:4] != b"glTF":
            raise ValueError("no glTF")
        tree = json.loads(stream.read(int.from_bytes(header[12:16], "little")))
    told = tree["asset"].get("extras")
    return told if isinstance(told, dict) else {}


def _ply(mesh: Mesh, account: dict[str, str]) -> bytes:
    from trimesh.exchange.ply import export_ply

    data = export_ply(_solid(mesh, vertex_colors=mesh.colors), vertex_normal=True)
    before, elements, after = data.partition(b"element ")
    return before + b"".join(f"comment {line}\n".encode() for line in _lines(account)) + elements + after


def _obj(mesh: Mesh, account: dict[str, str]) -> bytes:
    from trimesh.exchange.obj import export_obj

    solid = _solid(mesh, vertex_colors=mesh.colors)
    return export_obj(
        solid, include_normals=True, digits=_DIGITS, header="\n# ".join(_lines(account))
    ).encode()


def _comments(prefix: bytes, path: Path) -> dict[str, str]:
    """Names and values of the comments at the beginning of a text, or of a binary file with a text before it."""
    with open(path, "rb") as stream:
        lines = stream.read(_HEAD).splitlines()
    told = [line.removeprefix(prefix).decode(errors="replace") for line in lines if line.startswith(prefix)]
    return {name: value for name, _, value in (line.partition(" ") for line in told)}


def _lines(account: dict[str, str]) -> list[str]:
    return [f"{name} {value}" for name, value in account.items()]


def linear_color(colors: UInt8[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """sRGB of 8 bits as linear colour of 16 bits (IEC 61966-2-1)."""
    value = colors / 255.0
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.round(linear * (2**16 - 1)).astype(np.uint16)


# How each format is written, and how what it says of itself is read.
FORMATS: dict[str, tuple[Callable[[Mesh, dict[str, str]], bytes], Callable[[Path], dict[str, str]]]] = {
    ".glb": (_glb, _read_glb),
    ".ply": (_ply, partial(_comments, b"comment ")),
    ".obj": (_obj, partial(_comments, b"# ")),
}
