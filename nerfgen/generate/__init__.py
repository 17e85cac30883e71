"""What a trained model makes: views of codes, new codes, codes of photographs."""

from nerfgen.generate.codes import Objects, find_objects, stored_objects, table_objects
from nerfgen.generate.fit import Fitted, fit_latents
from nerfgen.generate.flatness import FLAT, flatness
from nerfgen.generate.photograph import Photographs, frame_photographs, photograph_objects
from nerfgen.generate.reconstruct import reconstruction_psnr
from nerfgen.generate.sampling import Principal, principal_axes, truncated_draws
from nerfgen.generate.store import render_to_file
from nerfgen.generate.tune import Tuned, tune_networks
from nerfgen.generate.views import Views, framing_intrinsics, render_views, turned_cameras, turned_views

__all__ = [
    "FLAT",
    "Fitted",
    "Objects",
    "Photographs",
    "Principal",
    "Tuned",
    "Views",
    "find_objects",
    "fit_latents",
    "flatness",
    "frame_photographs",
    "framing_intrinsics",
    "photograph_objects",
    "principal_axes",
    "reconstruction_psnr",
    "render_to_file",
    "render_views",
    "stored_objects",
    "table_objects",
    "truncated_draws",
    "tune_networks",
    "turned_cameras",
    "turned_views",
]
