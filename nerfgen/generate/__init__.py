"""What a trained model makes: views of codes, new codes, codes of photographs."""

from nerfgen.generate.codes import Objects, find_objects, referenced, stored_objects, table_objects
from nerfgen.generate.fit import Fitted, fit_latents
from nerfgen.generate.flatness import FLAT, flatness
from nerfgen.generate.nearness import Drawn, Neighbours, draw_identities, neighbours
from nerfgen.generate.photograph import photograph_objects
from nerfgen.generate.sampling import Principal, drawn_objects, principal_axes, truncated_draws
from nerfgen.generate.store import render_to_file
from nerfgen.generate.views import (
    Views,
    eight_bits,
    framing_intrinsics,
    render_views,
    turned_cameras,
    turned_views,
)
from nerfgen.generate.walk import great_arc, walk_axis, walk_between

__all__ = [
    "FLAT",
    "Drawn",
    "Fitted",
    "Neighbours",
    "Objects",
    "Principal",
    "Views",
    "draw_identities",
    "drawn_objects",
    "eight_bits",
    "find_objects",
    "fit_latents",
    "flatness",
    "framing_intrinsics",
    "great_arc",
    "neighbours",
    "photograph_objects",
    "principal_axes",
    "referenced",
    "render_to_file",
    "render_views",
    "stored_objects",
    "table_objects",
    "truncated_draws",
    "turned_cameras",
    "turned_views",
    "walk_axis",
    "walk_between",
]
