"""A training run from files to a model file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nerfgen import storage
from nerfgen.data import BaseModel, PixelCache, join_pixel_cache, open_pixel_cache
from nerfgen.errors import InputError
from nerfgen.image import ImageFolder, digest_images
from nerfgen.inversion import guess_images, learn_initial_guess
from nerfgen.model import Model, Preparation, Recipe, recorded_preparation, save_model
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.optimize import ONE_HOST, CheckpointSeries, HostError, Hosts, Limits, require_same_run
from nerfgen.stopping import stop_signals
from nerfgen.train.machine import Machine
from nerfgen.train.metrics_log import COLUMNS, MetricsLog, require_tensorboard
from nerfgen.train.result import (
    camera_corrections,
    latent_blocks,
    learned_model,
    model_preview,
    refined_cameras,
    save_refined_cameras,
    some_latents,
)
from nerfgen.train.run import Observers, Run
from nerfgen.train.setup import Setup, effective_recipe, require_same_networks, set_up
from nerfgen.train.state import TrainState


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


class StartModel(NamedTuple):
    """A model to fine-tune, and the provenance of its file."""

    model: Model
    record: storage.InputRecord


def train(
    files: TrainingFiles,
    recipe: Recipe,
    *,
    object_class: ObjectClass | str,
    seed: int = 0,
    minutes: float | None = None,
    base: BaseModel | None = None,
    start: StartModel | None = None,
    refine_cameras: bool | None = None,
    machine: Machine = Machine(),
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 5.0,
    keep: int = 0,
    tensorboard: Path | None = None,
    observers: Observers = Observers(),
    hosts: Hosts = ONE_HOST,
) -> storage.Record:
    """Train the auto-decoder and write ``model/1``.

    Ctrl-C and SIGTERM write a checkpoint before they act. Of several hosts each calls this with the same arguments;
    the first one writes files and calls the observers, and a signal on any of them stops all.

    Args:
        object_class: the class, the name of one that ships, or the file of another.
        minutes: stop after this time, with the decay of learning rates fitted to it. With ``recipe.steps`` too,
            whichever comes first. Runs limited by time are not bit-reproducible.
        base: a model to continue; its rows are kept, and the images that it does not know become new ones.
        start: a model to fine-tune on the images that it was trained on, see :func:`adversarial_recipe`.
        refine_cameras: None refines cameras that were fitted to landmarks, and keeps those that are known.
        resume: continue from the newest checkpoint, if there is one.
        checkpoint_minutes: time between checkpoints.
        keep: number of checkpoints to keep, the newest ones, also after the end; 0 keeps the last until then.
        tensorboard: folder for TensorBoard's event files.
        hosts: that run it together, see :func:`nerfgen.optimize.connected`.

    Returns:
        Summary: images, rows (of the table), skipped (by status), steps, psnr_db and losses of the last steps,
        rays_per_second, data_wait_share, seconds, kept.

    Raises:
        InputError: a file is missing, no image is usable, or a setting does not fit.
        DivergedError: the loss became NaN or exploded; no model is written, and the last checkpoint is kept.
        HostError: another host has failed, or was started with other arguments.
    """
    described = named_class(object_class)
    recipe = effective_recipe(
        recipe, described, files.cameras, masks=files.masks, refine_cameras=refine_cameras
    )
    limits = Limits(recipe.steps, minutes, checkpoint_minutes)
    limits.require_one()
    if base:
        require_same_networks(recipe, base.model)
    elif start:
        require_same_networks(recipe, start.model)
    elif recipe.freeze != "none":
        raise InputError(
            f"`freeze` {recipe.freeze} needs a model whose networks are kept; give it with `init`"
        )
    if recipe.lambda_adversarial > 0 and not start:
        raise InputError(
            "`lambda_adversarial` needs a model to fine-tune; train one without it, then give it with `init` and "
            "`adversarial`"
        )
    moving = recipe.camera_learning_rate > 0 or recipe.focal_learning_rate > 0
    if moving and os.path.realpath(files.cameras) == os.path.realpath(files.refined_cameras):
        raise InputError(
            f"{files.cameras} would be replaced by its refined cameras; choose another `output` for the model"
        )
    mesh = machine.mesh()
    # Errors that need no image are raised before images are framed.
    own_pass = machine.images_per_pass(recipe, mesh)
    if hosts.count > 1:  # which compile the same program
        machine = replace(machine, micro_batch=hosts.first("the devices", lambda: own_pass))
    if tensorboard:
        require_tensorboard()
    images = _images(files)
    machine.require_memory(recipe, len(images), mesh)
    parameters = recipe.values() | {
        "seed": seed,
        "minutes": minutes,
        "precision": machine.effective_precision(recipe, mesh),
    }
    if base:
        parameters["rehearsal"] = base.identity
    execution = {
        "devices": machine.devices,
        "rematerialise": machine.rematerialise,
        "placement": machine.placement,
        "resume": resume,
        "checkpoint_minutes": checkpoint_minutes,
        "cameras": storage.file_record(files.cameras)["sha256"],
    }
    _require_same(hosts, parameters | execution)
    # Other hosts need digests only where images may be rows of the base model.
    digests = (
        dict(zip(images, digest_images(files.data, images), strict=True))
        if hosts.is_first or base or start
        else {}
    )
    inputs = hosts.first("the digests of the images", lambda: _inputs(files, digests, base))
    of_pixels = storage.Stage(files.output, "model/1", described, parameters, inputs)
    stage = replace(of_pixels, inputs=[*inputs, start.record]) if start else of_pixels
    if hosts.first("the output", lambda: stage.is_current(overwrite=overwrite)):
        return {"kept": True, "output": str(files.output)}
    # Nothing is written for a run that cannot begin.
    checkpoints = CheckpointSeries(files.output, keep)
    resumed = _checkpoint(checkpoints, stage, hosts) if resume else None
    with (
        stage.claimed() if hosts.is_first else nullcontext(),
        _pixel_cache(files, recipe, of_pixels, machine, base, digests, hosts, observers) as cache,
    ):
        setup = set_up(recipe, described, cache, seed, machine, mesh, base, hosts, start and start.model)
        with setup.batches(machine.placement) as source:
            run = Run(setup, source, stage, limits, checkpoints, observers, resumed)
            log: AbstractContextManager[MetricsLog | None] = nullcontext()
            if hosts.is_first:
                log = MetricsLog(files.log, tensorboard, run.clock.done)
            with log as written, stop_signals() as stop:
                state = run.train(written, stop)
        preparation = recorded_preparation(files.cameras, files.masks)
        model = _write(setup, state, stage, np.array(run.entries), preparation)
        refined = refined_cameras(setup, state) if moving else None
        if hosts.is_first:
            if refined:
                save_refined_cameras(
                    replace(stage, output=files.refined_cameras), files.cameras, refined, base
                )
            checkpoints.finish()
            observers.checkpoint(model)
        return run.summary() | {"skipped": cache.skipped, "kept": False, "output": str(files.output)}


def _require_same(hosts: Hosts, parameters: Mapping[str, object]) -> None:
    """Check that all hosts were started with the same options, and see the same cameras.

    Raises:
        HostError: naming the first that differs.
    """
    told = hosts.meet("the parameters", json.loads(json.dumps(parameters)))
    for host, other in enumerate(told):
        for name, value in told[0].items():
            if other.get(name) != value:
                raise HostError(
                    f"host {host} was started with `{name}` {other.get(name)}, and host 0 with {value}; start all "
                    "hosts with the same command"
                )


def _inputs(
    files: TrainingFiles, digests: Mapping[str, tuple[int, str]], base: BaseModel | None
) -> list[storage.InputRecord]:
    """Provenance of what a run reads."""
    inputs = [storage.file_record(path) for path in (files.cameras, files.masks) if path]
    inputs.append(storage.folder_record(digests, digests.values()))
    return [*inputs, base.record] if base else inputs


def _checkpoint(checkpoints: CheckpointSeries, stage: storage.Stage, hosts: Hosts) -> Path | None:
    """The checkpoint to resume from, if there is one: the one that the first host sees."""

    def newest() -> str | None:
        found = checkpoints.newest()
        if found:
            require_same_run(found, stage)
        return str(found) if found else None

    found = hosts.first("the checkpoint", newest)
    return Path(found) if found else None


def _pixel_cache(
    files: TrainingFiles,
    recipe: Recipe,
    stage: storage.Stage,
    machine: Machine,
    base: BaseModel | None,
    digests: Mapping[str, tuple[int, str]],
    hosts: Hosts,
    observers: Observers,
) -> PixelCache:
    """The framed images; the first host frames them where they are not yet, and the others wait."""
    of_files = {image: digest for image, (_, digest) in digests.items()}
    common = files.data, files.cameras, files.masks, recipe.size
    cache = None
    if hosts.is_first:
        cache = open_pixel_cache(
            *common,
            object_class=stage.object_class,
            inputs=stage.inputs,
            path=machine.cache,
            fallback=files.output.parent,
            base=base,
            digests=of_files,
            progress=observers.framing,
            say=observers.say,
        )
    path = hosts.first("the framed images", lambda: str(cache.file.filename) if cache else "")
    return cache or join_pixel_cache(Path(path), *common, base=base, digests=of_files)


def _write(
    setup: Setup, state: TrainState, stage: storage.Stage, log: np.ndarray, preparation: Preparation
) -> Model:
    """Write the model file, and return what the preview is made of.

    Of a table that is divided among hosts, rows come to the first host block by block.
    """
    hosts, base, rows = setup.hosts, setup.base, setup.rows
    whole = hosts.count == 1
    preview = model_preview(setup, state, 1.0)
    model = preview if whole else learned_model(setup, state, preview.latents[:0])
    guess = base.model.guess if base else None
    if not base:
        images = guess_images(setup.cache)
        known = rows.of_image[images]
        latents = preview.latents[known] if whole else some_latents(setup, state, 1.0, known)
        corrections = camera_corrections(setup, state)
        if hosts.is_first:
            guess = learn_initial_guess(model, setup.cache, images, latents, corrections)
    model = replace(model, guess=guess, preparation=preparation)
    blocks = None if whole else latent_blocks(setup, state, 1.0)
    if hosts.is_first:
        save_model(stage, model, log=log, log_names=COLUMNS[1:], latents=blocks)
    else:
        for _ in blocks or ():
            pass  # the first host's
    return replace(preview, guess=guess, preparation=preparation)


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
