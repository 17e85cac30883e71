"""What a trained model makes: views of codes, new codes, codes of photographs."""

from nerfgen.generate.camera_path import CameraPath, read_camera_path, write_camera_path
from nerfgen.generate.codes import (
    Objects,
    file_reference,
    find_objects,
    joined,
    referenced,
    stored_objects,
    table_objects,
)
from nerfgen.generate.fit import Fitted, fit_latents
from nerfgen.generate.flatness import FLAT, flatness
from nerfgen.generate.nearness import Drawn, Neighbours, draw_identities, neighbours
from nerfgen.generate.photograph import Photographs, frame_photographs, photograph_objects
from nerfgen.generate.pictures import KINDS, input_photographs, save_pngs, video_frames, views_sheet
from nerfgen.generate.rays import ObjectRays
from nerfgen.generate.reconstruct import reconstruction_psnr
from nerfgen.generate.rehearsal import rehearsed
from nerfgen.generate.sampling import Principal, drawn_objects, principal_axes, truncated_draws
from nerfgen.generate.store import fitting_antialias, render_to_file
from nerfgen.generate.tune import Tuned, tune_networks
from nerfgen.generate.views import Views, eight_bits, render_views, surface_depths
from nerfgen.generate.walk import great_arc, walk_axis, walk_between
from nerfgen.geometry import framing_intrinsics, turned_cameras, turned_views

__all__ = [
    "FLAT",
    "KINDS",
    "CameraPath",
    "Drawn",
    "Fitted",
    "Neighbours",
    "ObjectRays",
    "Objects",
    "Photographs",
    "Principal",
    "Tuned",
    "Views",
    "draw_identities",
    "drawn_objects",
    "eight_bits",
    "file_reference",
    "find_objects",
    "fit_latents",
    "fitting_antialias",
    "flatness",
    "frame_photographs",
    "framing_intrinsics",
    "great_arc",
    "input_photographs",
    "joined",
    "neighbours",
    "photograph_objects",
    "principal_axes",
    "read_camera_path",
    "reconstruction_psnr",
    "referenced",
    "rehearsed",
    "render_to_file",
    "render_views",
    "save_pngs",
    "stored_objects",
    "surface_depths",
    "table_objects",
    "truncated_draws",
    "tune_networks",
    "turned_cameras",
    "turned_views",
    "video_frames",
    "views_sheet",
    "walk_axis",
    "walk_between",
    "write_camera_path",
]
