"""Settings of fitting new images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerfgen.settings import MAX_COUNT, MAX_SEED, MAX_WORKERS, Settings, setting

Start = Literal["guess", "mean"]


@dataclass(frozen=True)
class FitSettings(Settings, title="Fitting of new images"):
    """How latent codes are fitted to new images."""

    landmarker: Path | None = setting(
        None,
        metavar="FILE",
        help="Landmark estimator made by `nerfgen train-landmarker`, for classes that ship without one.",
    )
    models: Path | None = setting(
        None,
        metavar="FOLDER",
        help="Folder of MediaPipe's model files (see `nerfgen models`); NERFGEN_MODELS or the cache by default.",
    )
    steps: int = setting(
        100, option="--fit-steps", minimum=1, maximum=MAX_COUNT, help="Steps of latent fitting."
    )
    start: Start = setting(
        "guess",
        help="Where a latent code starts: at the model's initial [bold]guess[/bold] for the image, or at the "
        "[bold]mean[/bold] of all latent codes.",
    )
    refine_cameras: bool | None = setting(
        None,
        option="--fit-cameras/--no-fit-cameras",
        default_text="if training did",
        help="Refine the images' cameras together with their latent codes.",
    )
    residual: bool = setting(
        False,
        option="--code-residual",
        help="Of models with vector-quantised latent codes: in the end, let the global dimensions leave the entries of "
        "the codebooks.",
    )
    tune: bool = setting(
        False, help="Then tune the networks to each image; the change is kept in the output."
    )
    tune_steps: int = setting(100, minimum=1, maximum=MAX_COUNT, help="Steps of tuning.")
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random numbers.")
    workers: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_WORKERS,
        zero_is_default=True,
        help="Processes; one per core by default.",
    )

    @property
    def parameters(self) -> dict[str, object]:
        """What a file records of them."""
        values: dict[str, object] = {
            "fit_steps": self.steps,
            "start": self.start,
            "fit_cameras": self.refine_cameras,
            "tune_steps": self.tune_steps if self.tune else 0,
            "seed": self.seed,
        }
        return values | {"code_residual": True} if self.residual else values


@dataclass(frozen=True)
class PersonalSettings(Settings, title="Person"):
    """How the networks are personalised by several images of one object."""

    spread: float = setting(
        0.3,
        minimum=0,
        maximum=1.0,
        help="Standard deviation of an image's code about the person's, in standard deviations of the table: for "
        "expression and light; 0 gives all images the same code.",
    )
    tune: bool = setting(
        True, option="--tune/--no-tune", help="Tune the networks once to all images together."
    )
