"""Settings of an evaluation, and the files that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerfgen.image import ImageFolder, image_folder
from nerfgen.settings import MAX_COUNT, MAX_SEED, Settings, setting


@dataclass(frozen=True)
class EvaluationInputs(Settings, title="Reference data"):
    """Files of an evaluation."""

    model: Path = setting(help="Model file.")
    data: ImageFolder = setting(
        metavar="FOLDER", help="Training images, with the files beside them; the model's folder by default."
    )
    held_out: ImageFolder | None = setting(
        None,
        hidden_option=("--others",),
        parse=lambda _, text: image_folder(text),
        metavar="FOLDER",
        help="Images that the model was not trained on, for fit, novel, pairs and depth.",
    )
    pairs: Path | None = setting(
        None,
        metavar="FILE.csv",
        help="For pairs: columns source and target, two images of one object in `held_out`.",
    )
    keypoints: Path | None = setting(
        None,
        metavar="FILE.csv",
        help="For depth: columns image, x0, y0, z0, x1, ...: pixels, and depth in any unit.",
    )
    visible: Path | None = setting(
        None,
        metavar="FILE.csv",
        help="For depth: columns image, p0, p1, ...: 1 where a point of `keypoints` is visible in the image, 0 where "
        "the object hides it.",
    )
    landmarker: Path | None = setting(
        None,
        metavar="FILE",
        help="Landmark estimator made by `nerfgen train-landmarker`, for classes that ship without one.",
    )
    weights: Path | None = setting(
        None,
        metavar="FOLDER",
        help="Weights of the networks of LPIPS, FID, KID, IS, feature distances and identity; by default the usual "
        "cache, the installed package, or a download.",
    )


@dataclass(frozen=True)
class EvaluationSettings(Settings, title="Evaluation"):
    """Settings of an evaluation; the help of each field says what it means."""

    images: int = setting(
        200, minimum=1, maximum=MAX_COUNT, option=("-n", "--images"), help="Images per table, at most."
    )
    samples: int = setting(200, minimum=2, maximum=1_000_000, help="Number of new objects.")
    truncation: float = setting(
        0.7,
        minimum=0.0,
        maximum=100.0,
        unit="standard deviations",
        help="Truncation of the new objects' latent codes.",
    )
    fit_steps: int = setting(100, minimum=1, maximum=MAX_COUNT, help="Optimisation steps of latent fitting.")
    shown: int = setting(8, minimum=1, maximum=1000, help="Rows of an image grid.")
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random choices.")
