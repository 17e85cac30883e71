"""Settings of meshes."""

from __future__ import annotations

from dataclasses import dataclass

from nerfgen.settings import MAX_COUNT, Settings, setting


@dataclass(frozen=True)
class MeshSettings(Settings, title="Surface"):
    """How a mesh is made."""

    resolution: int = setting(
        128, minimum=8, maximum=1024, help="Cells of the grid along the longest side of the class's box."
    )
    level: float | None = setting(
        None,
        above=0,
        maximum=1e9,
        zero_is_default=True,
        help="Density of the surface, per world unit; by default, for each object, the level at which rendering shows "
        "the surface.",
    )
    largest: bool = setting(
        True, option="--largest/--all-parts", help="Keep the largest of separate parts only, or all parts."
    )
    watertight: bool = setting(
        False,
        option="--watertight/--open",
        help="Close the surface where the box cuts the object, or leave it open.",
    )
    faces: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_COUNT,
        zero_is_default=True,
        help="Simplify to this many triangles; keep all by default.",
    )
