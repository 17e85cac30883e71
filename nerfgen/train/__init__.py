"""The training engine: data, losses, step, checkpoints and the run that joins them."""

from nerfgen.train.cache import PixelCache, pixel_cache
from nerfgen.train.data import Framed, for_cameras, load_framed
from nerfgen.train.loop import DivergedError, TrainingFiles, train
from nerfgen.train.preset import PRESETS, Preset

__all__ = [
    "PRESETS",
    "DivergedError",
    "Framed",
    "PixelCache",
    "Preset",
    "TrainingFiles",
    "for_cameras",
    "load_framed",
    "pixel_cache",
    "train",
]
