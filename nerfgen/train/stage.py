"""A training run from files to a model file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.data import BaseModel, BatchSource, open_pixel_cache
from nerfgen.errors import InputError
from nerfgen.image import ImageFolder, digest_images
from nerfgen.inversion import learn_initial_guess
from nerfgen.model import Model, Recipe, recorded_preparation, save_model
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.optimize import (
    Checkpoint,
    CheckpointSeries,
    Clock,
    Limits,
    load_checkpoint,
    require_same_run,
    run_loop,
)
from nerfgen.parallel import Progress, silent
from nerfgen.stopping import Stop, stop_signals
from nerfgen.train.machine import Machine
from nerfgen.train.metrics_log import (
    COLUMNS,
    Entry,
    MetricsLog,
    logged_values,
    mean_entry,
    recent_means,
    require_tensorboard,
)
from nerfgen.train.result import camera_corrections, learned_model, save_refined_cameras
from nerfgen.train.setup import Setup, effective_recipe, require_same_networks, set_up
from nerfgen.train.state import TrainState, shard_state, unshard_state, without_totals


@dataclass(frozen=True)
class TrainingFiles:
    """Where a run reads and writes.

    Attributes:
        data: folder of the images.
        cameras, masks: files of the earlier stages; without masks the separation is learned alone.
        output: model file to write.
    """

    data: ImageFolder
    cameras: Path
    masks: Path | None
    output: Path

    @property
    def log(self) -> Path:
        """JSON lines beside the model."""
        return self.output.with_suffix(".log.jsonl")

    @property
    def refined_cameras(self) -> Path:
        """Cameras as training refined them, beside the model."""
        return self.output.with_suffix(".cameras.h5")


@dataclass(frozen=True)
class Observers:
    """Callbacks of a run.

    Attributes:
        framing: progress of decoding and framing.
        training: progress of the steps.
        checkpoint: called with the model so far at every checkpoint and at the end.
        say: receives warnings, a line each.
    """

    framing: Progress = silent
    training: Progress = silent
    checkpoint: Callable[[Model], None] = lambda model: None
    say: Callable[[str], None] = lambda line: None


def train(
    files: TrainingFiles,
    recipe: Recipe,
    *,
    object_class: ObjectClass | str,
    seed: int = 0,
    minutes: float | None = None,
    base: BaseModel | None = None,
    refine_cameras: bool | None = None,
    machine: Machine = Machine(),
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 5.0,
    keep: int = 0,
    tensorboard: Path | None = None,
    observers: Observers = Observers(),
) -> storage.Record:
    """Train the auto-decoder and write ``model/1``.

    Ctrl-C and SIGTERM write a checkpoint before they act.

    Args:
        object_class: the class, the name of one that ships, or the file of another.
        minutes: stop after this time, with the decay of learning rates fitted to it. With ``recipe.steps`` too,
            whichever comes first. Runs limited by time are not bit-reproducible.
        base: a model to continue; its rows are kept, and the images that it does not know become new ones.
        refine_cameras: None refines cameras that were fitted to landmarks, and keeps those that are known.
        resume: continue from the newest checkpoint, if there is one.
        checkpoint_minutes: time between checkpoints.
        keep: number of checkpoints to keep, the newest ones, also after the end; 0 keeps the last until then.
        tensorboard: folder for TensorBoard's event files.

    Returns:
        Summary: images, rows (of the table), skipped (by status), steps, psnr_db and losses of the last steps,
        rays_per_second, data_wait_share, seconds, kept.

    Raises:
        InputError: a file is missing, no image is usable, or a setting does not fit.
        DivergedError: the loss became NaN or exploded; no model is written, and the last checkpoint is kept.
    """
    described = named_class(object_class)
    recipe = effective_recipe(
        recipe, described, files.cameras, masks=files.masks, refine_cameras=refine_cameras
    )
    limits = Limits(recipe.steps, minutes, checkpoint_minutes)
    limits.require_one()
    if base:
        require_same_networks(recipe, base.model)
    moving = recipe.camera_learning_rate > 0 or recipe.focal_learning_rate > 0
    if moving and os.path.realpath(files.cameras) == os.path.realpath(files.refined_cameras):
        raise InputError(
            f"{files.cameras} would be replaced by its refined cameras; choose another `output` for the model"
        )
    mesh = machine.mesh()
    # Errors that need no image are raised before images are framed.
    machine.images_per_pass(recipe, mesh)
    if tensorboard:
        require_tensorboard()
    images = _images(files)
    machine.require_memory(recipe, len(images), mesh)
    digests = dict(zip(images, digest_images(files.data, images), strict=True))
    parameters = recipe.values() | {
        "seed": seed,
        "minutes": minutes,
        "precision": machine.effective_precision(recipe, mesh),
    }
    inputs = [storage.file_record(path) for path in (files.cameras, files.masks) if path]
    inputs.append(storage.folder_record(images, digests.values()))
    if base:
        parameters["rehearsal"] = base.identity
        inputs.append(base.record)
    stage = storage.Stage(files.output, "model/1", described, parameters, inputs)
    if stage.is_current(overwrite=overwrite):
        return {"kept": True, "output": str(files.output)}
    # Nothing is written for a run that cannot begin.
    checkpoints = CheckpointSeries(files.output, keep)
    if resume and (newest := checkpoints.newest()):
        require_same_run(newest, stage)
    with (
        stage.claimed(),
        open_pixel_cache(
            files.data,
            files.cameras,
            files.masks,
            recipe.size,
            object_class=described,
            inputs=inputs,
            path=machine.cache,
            fallback=files.output.parent,
            base=base,
            digests={image: digest for image, (_, digest) in digests.items()},
            progress=observers.framing,
            say=observers.say,
        ) as cache,
    ):
        setup = set_up(recipe, described, cache, seed, machine, mesh, base)
        with setup.batches(machine.placement) as source:
            run = _Run(setup, source, stage, limits, checkpoints, observers, resume=resume)
            with MetricsLog(files.log, tensorboard, run.clock.done) as log, stop_signals() as stop:
                state = run.train(log, stop)
        model = learned_model(setup, state, 1.0)
        guess = (
            base.model.guess
            if base
            else learn_initial_guess(model, cache, setup.rows, camera_corrections(setup, state))
        )
        preparation = recorded_preparation(files.cameras, files.masks)
        model = replace(model, guess=guess, preparation=preparation)
        save_model(stage, model, log=np.array(run.entries), log_names=COLUMNS[1:])
        if moving:
            save_refined_cameras(replace(stage, output=files.refined_cameras), files.cameras, setup, state)
        checkpoints.finish()
        observers.checkpoint(model)
        return run.summary() | {"skipped": cache.skipped, "kept": False, "output": str(files.output)}


class _Run:
    """A state on its way through the loop, with its log and checkpoints."""

    def __init__(
        self,
        setup: Setup,
        source: BatchSource,
        stage: storage.Stage,
        limits: Limits,
        checkpoints: CheckpointSeries,
        observers: Observers,
        *,
        resume: bool,
    ) -> None:
        self._setup, self._source, self._stage = setup, source, stage
        self._checkpoints, self._observers = checkpoints, observers
        newest = checkpoints.newest() if resume else None
        if newest:
            found = load_checkpoint(newest, stage, setup.state_shapes())
            state, done, seconds = shard_state(found.state, setup.mesh), found.step, found.seconds
            self.entries: list[Entry] = found.log
        else:
            checkpoints.discard_previous()
            state, done, seconds, self.entries = setup.initial_state(), 0, 0.0, []
        self._state = state
        self._advance = setup.compile_step(source, state, done)
        self._waited_before = source.waited
        # The clock starts when the step is compiled: a time limit buys training.
        self.clock = Clock(limits, done=done, seconds=seconds)

    def train(self, log: MetricsLog, stop: Stop) -> TrainState:
        """The state at the end of the run, or where a stop was requested, with a checkpoint written."""
        recipe = self._setup.recipe

        def report(state: TrainState) -> TrainState:
            entry = mean_entry(np.asarray(state.totals), self.clock.done, self.entries)
            self.entries.append(entry)
            log.add(logged_values(entry, recipe, self.clock, self._data_wait_fraction()))
            self._observers.training(self.clock.done, self.clock.expected_steps, self._note())
            return without_totals(state)

        def save(state: TrainState) -> None:
            arrays = unshard_state(state, self._setup.rows)
            checkpoint = Checkpoint(arrays, self.clock.done, self.clock.seconds, self.entries)
            self._checkpoints.save(checkpoint, self._stage)
            if not stop:
                self._observers.checkpoint(learned_model(self._setup, state, self.clock.fraction))

        return run_loop(
            self._advance,
            self._state,
            self.clock,
            report_every=self._setup.report_every,
            report=report,
            should_stop=lambda: bool(stop),
            save=save,
        )

    def summary(self) -> storage.Record:
        """Figures of the run."""
        recent, rows = recent_means(self.entries), self._setup.rows
        return {
            "images": rows.num_inputs,
            "rows": rows.count,
            "steps": self.clock.done,
            "psnr_db": recent["psnr_db"],
            "loss_rgb": recent["rgb"],
            "loss_mask": recent["mask"],
            "loss_hard": recent["hard"],
            "rays_per_second": self._rays_per_second(),
            "data": self._source.placement,
            "data_wait_share": self._data_wait_fraction(),
            "devices": self._setup.mesh.size,
            "seconds": self.clock.seconds,
        }

    def _note(self) -> str:
        recent = recent_means(self.entries)
        note = (
            f"rgb {recent['rgb']:.4f} mask {recent['mask']:.4f} hard {recent['hard']:.4f} "
            f"PSNR {recent['psnr_db']:.1f} dB, {self._rays_per_second():,.0f} rays/s"
        )
        if self._source.streamed:
            note += f", {self._data_wait_fraction():.0%} waiting for data"
        return note

    def _rays_per_second(self) -> float:
        return self._setup.recipe.rays_per_batch * self.clock.steps_per_second

    def _data_wait_fraction(self) -> float:
        """Fraction of the session's time that the step waited for data."""
        return (self._source.waited - self._waited_before) / max(self.clock.session_seconds, 1e-6)


def _images(files: TrainingFiles) -> list[str]:
    """The images that the cameras file lists.

    Raises:
        InputError: it is missing, or the masks are.
    """
    with storage.reading(
        files.cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {files.data}"
    ) as file:
        images = storage.strings(file["image"])
    if files.masks and not files.masks.is_file():
        raise InputError(
            f"{files.masks} does not exist; make it with `nerfgen segment {files.data}`, or train without masks "
            "(`no_masks`)"
        )
    return images
