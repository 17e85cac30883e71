"""How well and how quickly new images are fitted, by synthetic heads that the model has not seen."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.bench.timing import Say
from nerfgen.camera import CameraSettings, fit_folder
from nerfgen.evaluate.held_out_views import (
    camera_errors,
    fitted_camera_errors,
    held_out_views_for_images,
    score_latents,
    score_model,
)
from nerfgen.inversion import PreparedImages, fit_latents, prepare_images, tune_networks
from nerfgen.landmark import landmark_folder
from nerfgen.mask import MaskSettings, segment_folder
from nerfgen.model import PRESETS, Model, load_model
from nerfgen.parallel import Progress, silent
from nerfgen.synth import SynthSettings, synthesize
from nerfgen.train import TrainingFiles, continued_recipe, load_base_model, train

_KIND = "heads"
# The people fitted are those of another seed than the people trained on.
_TRAINING_SEED, _FITTED_SEED = 0, 1
_VIEWS = 2
_JUDGED = 48


def measure_fitting(
    data: Path | None,
    *,
    images: int,
    new_images: int,
    size: int,
    steps: int,
    fit_steps: int,
    tune: bool,
    personalise: int,
    say: Say,
    progress: Progress = silent,
) -> storage.Record:
    """Train `fast` on heads with estimated cameras, fit other heads from one image each, and judge by truth.

    Args:
        data: folder for the heads and the model, kept there for the next time; None for a temporary one.
        images: heads to train on.
        new_images: heads to fit.
        size: of all images, pixels.
        steps: of training.
        fit_steps: of fitting.
        tune: also tune the networks to each image.
        personalise: number of the images that training then continues with; none if 0.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = data or Path(scratch)
        seen, new = data / "training", data / "new"
        for folder, count, judged, seed in (
            (seen, images, min(images, _JUDGED), _TRAINING_SEED),
            (new, new_images, new_images, _FITTED_SEED),
        ):
            synthesize(
                _KIND,
                folder,
                SynthSettings(num_images=count, size=size, views=_VIEWS, heldout_objects=judged, seed=seed),
                progress=progress,
            )
        model = _trained(seen, size, steps, say)
        # Only images: the truth lies in the same folder.
        files = sorted(new.glob("*.png"))
        began = time.perf_counter()
        framed = prepare_images(model, files, warn=say)
        framing = time.perf_counter() - began
        judged_training = score_model(model, seen / "truth.h5")
        errors = camera_errors(model, seen / "truth.h5")
        result: storage.Record = {
            "images": len(model.images),
            "new_images": len(framed.framed.images),
            "seconds_framing": framing,
            "novel_view_psnr_db_training": judged_training["psnr_db"],
            "camera_rotation_error_deg_training": float(np.median(errors)),
        }
        starts = {}
        for start in ("guess", "mean"):
            say(f"fitting from the {start}")
            starts[start] = _fitted(model, framed, seen, new, start, fit_steps, tune and start == "guess")
        if personalise:
            say(f"going on with {personalise} of the new images")
            result["personalised"] = _personalised(
                seen, files[:personalise], Path(scratch) / "mine", steps, say
            )
    own = starts["guess"]
    return result | {
        "seconds_fitting": own["seconds"],
        "seconds_for_100": (framing + own["seconds"]) * 100 / new_images,
        "novel_view_psnr_db_fitted": own["novel_view_psnr_db"],
        "starts": starts,
    }


def _trained(folder: Path, size: int, steps: int, say: Say) -> Model:
    """The model of a folder of heads, whose cameras and masks are estimated from the images."""
    files = TrainingFiles(folder, folder / "cameras.h5", folder / "masks.h5", folder / "model.h5")
    preset = replace(PRESETS["fast"], size=size, steps=steps)
    landmark_folder(folder, folder / "landmarks.h5", warn=say)
    fit_folder(folder, files.cameras, CameraSettings(refine_canonical=True))
    segment_folder(folder, folder / "masks.h5", settings=MaskSettings(size=size), warn=say)
    say(f"training for {steps} steps")
    train(files, preset, object_class="heads", seed=_TRAINING_SEED)
    return load_model(files.output)


def _personalised(
    seen: Path, new_images: list[Path], mine: Path, most_steps: int, say: Say
) -> storage.Record:
    """Seconds of training that continues with images of new heads, and the quality of new heads and old ones."""
    mine.mkdir(parents=True)
    for file in new_images:  # by names that no training head has
        shutil.copyfile(file, mine / f"new-{file.name}")
    began = time.perf_counter()
    base = load_base_model(seen / "model.h5")
    files = TrainingFiles(mine, mine / "cameras.h5", mine / "masks.h5", mine / "model.h5")
    former = base.model
    landmark_folder(mine, mine / "landmarks.h5", warn=say)
    fit_folder(
        mine,
        files.cameras,
        CameraSettings(focal=former.focal),
        canonical=(former.canonical_index, former.canonical),
    )
    segment_folder(mine, mine / "masks.h5", settings=MaskSettings(size=former.size), warn=say)
    recipe = continued_recipe(former)
    train(
        files,
        replace(recipe, steps=min(recipe.steps or most_steps, most_steps)),
        object_class="heads",
        base=base,
    )
    seconds = time.perf_counter() - began
    model = load_model(files.output)
    own = slice(len(former.images), None)
    names = [name.removeprefix("new-") for name in model.images[own]]
    truth = new_images[0].with_name("truth.h5")
    held_out = held_out_views_for_images(
        names, model.intrinsics[own], model.cam_to_world[own], model.size, truth
    )
    return {
        "new_images": len(names),
        "seconds": seconds,
        "novel_view_psnr_db": score_latents(model, model.latents[own], held_out)["psnr_db"],
        "novel_view_psnr_db_training": score_model(model, seen / "truth.h5")["psnr_db"],
    }


def _fitted(
    model: Model, new_images: PreparedImages, seen: Path, new: Path, start: Any, steps: int, tune: bool
) -> storage.Record:
    """Seconds and quality of one way to fit all new images."""
    framed = new_images.framed
    began = time.perf_counter()
    fitted = fit_latents(model, framed, steps=steps, start=start)
    seconds = time.perf_counter() - began
    held_out = held_out_views_for_images(
        framed.images, framed.intrinsics, fitted.cam_to_world, model.size, new / "truth.h5"
    )

    def errors(cameras: Float[np.ndarray, "image 4 4"]) -> float:
        with storage.reading(new / "truth.h5", "truth/1") as file:
            place = storage.positions(framed.images, storage.strings(file["image"]))
            true = file["cam_to_world"][:][place]
        return float(np.median(fitted_camera_errors(model, seen / "truth.h5", cameras, true)))

    result: storage.Record = {
        "seconds": seconds,
        "converged": int(fitted.converged.sum()),
        "iterations": int(fitted.iterations.max()),
        "fit_psnr_db": float(fitted.psnr.mean()),
        "novel_view_psnr_db": score_latents(model, fitted.latents, held_out)["psnr_db"],
        "camera_rotation_error_deg": errors(fitted.cam_to_world),
        "camera_rotation_error_deg_unrefined": errors(framed.cam_to_world),
    }
    if tune:
        began = time.perf_counter()
        tuned = tune_networks(model, framed, fitted)
        result["tuned"] = {
            "seconds": time.perf_counter() - began,
            "fit_psnr_db": float(tuned.psnr.mean()),
            "novel_view_psnr_db": score_latents(model, fitted.latents, held_out, tuned.deltas)["psnr_db"],
        }
    return result
