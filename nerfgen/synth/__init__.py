"""Procedural classes with ground truth: heads and toy cars, rendered by the program itself."""

from nerfgen.synth.dataset import write_dataset
from nerfgen.synth.kinds import KINDS, draw_camera, make_object, render_object, world_keypoints
from nerfgen.synth.render import Picture, Solid

__all__ = [
    "KINDS",
    "Picture",
    "Solid",
    "draw_camera",
    "make_object",
    "render_object",
    "world_keypoints",
    "write_dataset",
]
