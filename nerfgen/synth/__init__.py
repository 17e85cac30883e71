"""Procedural classes with ground truth: heads and toy cars, rendered by the program itself."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.synth.procedural import (
        PROCEDURAL_CLASSES,
        draw_camera,
        make_object,
        render_object,
        world_keypoints,
    )
    from nerfgen.synth.settings import SynthSettings
    from nerfgen.synth.shading import Rendering, Solid
    from nerfgen.synth.stage import synthesize

__getattr__ = lazy_imports(__name__)

__all__ = [
    "PROCEDURAL_CLASSES",
    "Rendering",
    "Solid",
    "SynthSettings",
    "draw_camera",
    "make_object",
    "render_object",
    "synthesize",
    "world_keypoints",
]
