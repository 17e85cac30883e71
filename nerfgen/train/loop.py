"""A training run from files to a model file: load, step, log, checkpoint, finish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.field import Model, save_model
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.parallel import Progress, silent
from nerfgen.photo import digest_images
from nerfgen.stopping import stop_signals
from nerfgen.train.cache import pixel_cache
from nerfgen.train.cameras import save_refined_cameras
from nerfgen.train.checkpoint import Checkpoints, load_checkpoint
from nerfgen.train.data import for_class
from nerfgen.train.execution import Execution
from nerfgen.train.guess import first_guess
from nerfgen.train.preset import Preset
from nerfgen.train.record import Record, check_tensorboard
from nerfgen.train.run import Limits, Run
from nerfgen.train.start import Start, check_fits


@dataclass(frozen=True)
class TrainingFiles:
    """Where a run reads and writes.

    Attributes:
        data: folder of the images.
        cameras, masks: files of the earlier stages; without masks the separation is learned alone.
        output: model file to write.
    """

    data: Path
    cameras: Path
    masks: Path | None
    output: Path

    @property
    def log(self) -> Path:
        """JSON lines beside the model."""
        return self.output.with_suffix(".log.jsonl")

    @property
    def refined_cameras(self) -> Path:
        """Cameras as training left them, beside the model."""
        return self.output.with_suffix(".cameras.h5")


def train(
    files: TrainingFiles,
    preset: Preset,
    *,
    object_class: ObjectClass | str,
    seed: int = 0,
    minutes: float = 0.0,
    start: Start | None = None,
    execution: Execution = Execution(),
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 5.0,
    keep: int = 0,
    tensorboard: Path | None = None,
    load_progress: Progress = silent,
    progress: Progress = silent,
    on_checkpoint: Callable[[Model], None] | None = None,
) -> dict[str, Any]:
    """Train the auto-decoder and write ``model/1``.

    Ctrl-C and SIGTERM write a checkpoint before they act.

    Args:
        object_class: the class, the name of one that ships, or the file of another.
        minutes: stop after this time, with the learning rates' decay fitted to it; 0 runs ``preset.steps``.
            With both, whichever comes first. Runs limited by time are not reproducible to the bit.
        start: a model to go on from; its rows are kept, and the images that it does not know become new ones.
        resume: go on from the newest checkpoint, if there is one.
        checkpoint_minutes: time between checkpoints.
        keep: checkpoints to leave, the newest ones, also when the run is finished; 0 keeps the last until then.
        tensorboard: folder for TensorBoard's event files.
        on_checkpoint: called with the model so far at every checkpoint and at the end.

    Returns:
        Summary: images, rows (of the table), skipped (by status), steps, psnr_db and losses of the last steps,
        rays_per_second, data_wait_share, seconds, kept.

    Raises:
        DivergedError: the loss became NaN or exploded; no model is written, and the last checkpoint is left.
    """
    described = named_class(object_class)
    preset = for_class(preset, described, with_masks=files.masks is not None)
    if not preset.steps and not minutes:
        raise InputError("a run without limit: give --steps or --minutes")
    if start:
        check_fits(preset, start.model)
    moving = preset.camera_learning_rate > 0 or preset.focal_learning_rate > 0
    if moving and files.cameras.resolve() == files.refined_cameras.resolve():
        raise InputError(
            f"{files.cameras} would be replaced by its refined cameras; give -o for another model file"
        )
    mesh = execution.mesh()
    # What can fail does before the photographs are framed.
    execution.images_at_a_time(preset, mesh)
    if tensorboard:
        check_tensorboard()
    parameters = asdict(preset) | {
        "seed": seed,
        "minutes": minutes,
        "precision": execution.effective_precision(mesh),
    }
    if start:
        parameters["pictures"] = start.account
    images = _images(files)
    digests = dict(zip(images, digest_images(files.data, images), strict=True))
    folder = artifact.folder_record(images, digests.values())
    inputs = [artifact.file_record(path) for path in (files.cameras, files.masks) if path] + [folder]
    inputs += [start.record] if start else []
    about: artifact.About = {"object_class": described, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(files.output, "model/1", **about, overwrite=overwrite):
        return {"kept": True, "output": str(files.output)}
    cache = pixel_cache(
        execution.cache or files.data / "pixels.h5",
        files.data,
        files.cameras,
        files.masks,
        preset.size,
        object_class=described,
        inputs=inputs,
        start=start,
        digests={image: digest for image, (_, digest) in digests.items()},
        progress=load_progress,
    )
    checkpoints = Checkpoints(files.output, keep)
    with Run(preset, described, cache, seed, execution, mesh, start) as run:
        found = checkpoints.newest() if resume else None
        if found:
            artifact.is_current(found, "checkpoint/1", **about)
            run.take_up(load_checkpoint(found, run.state_shapes()))
        else:
            checkpoints.begin_anew()
            run.begin()
        run.start(Limits(preset.steps, minutes, checkpoint_minutes))
        with Record(files.log, tensorboard, run.done) as record, stop_signals() as stop:
            while run.progress < 1.0 and not stop:
                entry = run.advance(stop)
                if entry:
                    record.add(entry)
                    progress(*run.shown())
                if run.checkpoint_due() and run.progress < 1.0 and not stop:
                    checkpoints.save(run.checkpoint(), run.table_sizes, about)
                    if on_checkpoint:
                        on_checkpoint(run.model())
            if stop:
                checkpoints.save(run.checkpoint(), run.table_sizes, about)
        model = run.model()
        guess = start.model.guess if start else first_guess(model, cache, run.rows, run.corrections())
        model, cameras = replace(model, guess=guess), run.all_cameras()
        summary = run.summary()
        log = run.log
    if moving:
        save_refined_cameras(files.refined_cameras, files.cameras, cameras, about)
    save_model(files.output, model, parameters=parameters, inputs=inputs, log=np.array(log))
    checkpoints.finish()
    if on_checkpoint:
        on_checkpoint(model)
    return summary | {"kept": False, "output": str(files.output)}


def _images(files: TrainingFiles) -> list[str]:
    """The images that the cameras file lists.

    Raises:
        InputError: it is missing, or the masks are.
    """
    with artifact.reading(
        files.cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {files.data}"
    ) as file:
        images = artifact.strings(file["image"])
    if files.masks and not files.masks.is_file():
        raise InputError(
            f"{files.masks} does not exist; make it with `nerfgen segment {files.data}` or train with --no-masks"
        )
    return images
