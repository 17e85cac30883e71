"""What an evaluation is made from, and what it depends on beside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Sources:
    """Where an evaluation reads.

    Attributes:
        model: the model's file.
        data: folder of the training photographs.
        others: folder of photographs that the model has not seen; None for none.
        pairs: CSV of pairs of photographs of one object each, paths relative to ``others``; None for none.
        keypoints: CSV of true 3D keypoints of photographs; None for none.
        landmarker: estimator for classes that bring none.
        weights: folder of the weights of pretrained networks; None for the usual caches.
    """

    model: Path
    data: Path
    others: Path | None = None
    pairs: Path | None = None
    keypoints: Path | None = None
    landmarker: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What an evaluation depends on beside its sources.

    Attributes:
        images: photographs of each table, at most (200 as published).
        samples: new objects that are judged.
        truncation: of these, in standard deviations.
        fit_steps: of fitting a photograph.
        shown: rows of a grid of pictures.
        seed: of everything random.
    """

    images: int = 200
    samples: int = 200
    truncation: float = 0.7
    fit_steps: int = 100
    shown: int = 8
    seed: int = 0


def choose(names: Sequence[str], count: int, seed: int) -> Int[np.ndarray, "chosen"]:
    """Places of ``count`` of the names, in their order; whether a name is chosen before another hangs on the two and
    the seed alone, so that models of different tables are judged by the same photographs."""
    drawn = sorted(range(len(names)), key=lambda k: hashlib.sha256(f"{seed} {names[k]}".encode()).digest())
    return np.array(sorted(drawn[:count]), dtype=np.int64)
