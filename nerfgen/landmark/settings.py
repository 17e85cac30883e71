"""Settings of landmarks: formats of annotations, and the training of an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerfgen.settings import MAX_COUNT, MAX_MINUTES, MAX_SEED, Settings, setting

AnnotationFormat = Literal["celeba", "ffhq", "coco", "cat", "csv"]
ANNOTATION_FORMATS: dict[AnnotationFormat, str] = {
    "celeba": "CelebA's lists of landmarks (.txt)",
    "ffhq": "FFHQ's ffhq-dataset-v2.json",
    "coco": "COCO keypoints (.json)",
    "cat": "the CAT dataset's .cat files, in a folder",
    "csv": "a table: image,x0,y0,x1,y1,... or image,NAME_x,NAME_y,... (.csv)",
}

_STEPS = 3000


@dataclass(frozen=True)
class EstimatorTraining(Settings, title="Training"):
    """How a landmark estimator is trained."""

    negatives: Path | None = setting(
        None,
        metavar="FOLDER",
        help="Images without any object of the classes, which the estimator learns to reject: people, for pets.",
    )
    hard_negatives: int = setting(
        1,
        minimum=1,
        maximum=16,
        help="Windows without an object that are drawn for each one that counts: the networks learn from those that "
        "they mistake most. 1 takes all.",
    )
    split_by: int = setting(
        0,
        minimum=0,
        maximum=255,
        help="Hold out images together whose file names share this number of leading characters; 0 splits image by "
        "image.",
    )
    held_out: float = setting(
        0.2,
        minimum=0,
        maximum=0.9,
        help="Fraction of the images that is not trained on and measures the error.",
    )
    steps: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_COUNT,
        default_text=f"{_STEPS:,}; no limit with --minutes",
        help="Number of steps.",
    )
    batch: int = setting(24, minimum=1, maximum=4096, help="Objects per step.")
    minutes: float | None = setting(
        None,
        above=0,
        maximum=MAX_MINUTES,
        zero_is_default=True,
        help="Stop after this many minutes; the decay of learning rates is fitted to them.",
    )
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random numbers.")

    @property
    def step_limit(self) -> int | None:
        """The number of steps; None where only ``minutes`` end the training."""
        return self.steps or (None if self.minutes else _STEPS)
