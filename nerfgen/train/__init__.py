"""The training engine: data, losses, step, checkpoints and the run that joins them."""

from nerfgen.train.cache import PixelCache, pixel_cache
from nerfgen.train.data import Framed, for_cameras, load_framed
from nerfgen.train.estimate import estimate
from nerfgen.train.execution import Execution
from nerfgen.train.loop import TrainingFiles, train
from nerfgen.train.preset import PRESETS, Preset
from nerfgen.train.run import DivergedError
from nerfgen.train.start import Start, going_on

__all__ = [
    "PRESETS",
    "DivergedError",
    "Execution",
    "Framed",
    "PixelCache",
    "Preset",
    "Start",
    "TrainingFiles",
    "estimate",
    "for_cameras",
    "going_on",
    "load_framed",
    "pixel_cache",
    "train",
]
