"""A training run from files to a model file: load, step, log, checkpoint, finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError, NerfgenError
from nerfgen.field import Model, save_model
from nerfgen.objectclass import object_class
from nerfgen.parallel import Progress, silent
from nerfgen.photo import digest_images
from nerfgen.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nerfgen.train.data import Framed, load_framed, pixel_order
from nerfgen.train.preset import Preset
from nerfgen.train.step import Pixels, State, corrected_cameras, initial_state, make_step

# Steps between two looks at the losses: each look waits for the device.
_LOG_EVERY = 20
_LOG_NAMES = ("rgb", "mask", "hard")


class DivergedError(NerfgenError):
    """The loss is no longer a number."""

    exit_code = 1


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
    def checkpoint(self) -> Path:
        """Beside the model; removed when the run is finished."""
        return self.output.with_suffix(".checkpoint.h5")


def train(
    files: TrainingFiles,
    preset: Preset,
    *,
    class_name: str,
    seed: int = 0,
    minutes: float = 0.0,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 5.0,
    load_progress: Progress = silent,
    progress: Progress = silent,
    on_checkpoint: Callable[[Model], None] | None = None,
) -> dict[str, Any]:
    """Train the auto-decoder and write ``model/1``.

    Args:
        minutes: stop after this time, with the learning rates' decay fitted to it; 0 runs ``preset.steps``.
            With both, whichever comes first. Runs limited by time are not reproducible to the bit.
        resume: go on from the checkpoint, if there is one.
        checkpoint_minutes: time between checkpoints.
        on_checkpoint: called with the model so far at every checkpoint and at the end.

    Returns:
        Summary: images, skipped (by status), steps, psnr_db and losses of the last steps, rays_per_second,
        seconds, kept.

    Raises:
        DivergedError: the loss became NaN; nothing is written.
    """
    if files.masks is None:
        preset = replace(preset, lambda_mask=0.0)
    parameters = asdict(preset) | {"seed": seed, "minutes": minutes}
    inputs = _inputs(files)
    about: artifact.About = {"object_class": class_name, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(files.output, "model/1", **about, overwrite=overwrite):
        return {"kept": True, "output": str(files.output)}
    framed = load_framed(files.data, files.cameras, files.masks, preset.size, progress=load_progress)
    bounds = object_class(class_name).bounds
    run = _Run(preset, bounds, framed, seed)
    if resume and files.checkpoint.exists():
        artifact.is_current(files.checkpoint, "checkpoint/1", **about)
        run.take_up(load_checkpoint(files.checkpoint, run.state))
    run.start(preset, minutes)
    last_checkpoint = time.monotonic()
    while run.progress < 1.0:
        run.advance()
        progress(*run.shown())
        if time.monotonic() - last_checkpoint > 60 * checkpoint_minutes and run.progress < 1.0:
            save_checkpoint(files.checkpoint, Checkpoint(run.state, run.log, run.seconds), about)
            if on_checkpoint:
                on_checkpoint(run.model(class_name))
            last_checkpoint = time.monotonic()
    model = run.model(class_name)
    save_model(
        files.output, model, parameters=parameters, inputs=inputs, log=np.array(run.log).reshape(-1, 5)
    )
    files.checkpoint.unlink(missing_ok=True)
    if on_checkpoint:
        on_checkpoint(model)
    return run.summary() | {"kept": False, "output": str(files.output)}


def to_device(framed: Framed) -> Pixels:
    """The arrays of the training step, in the device's memory."""
    order, inside, valid = pixel_order(framed.mask, framed.valid)
    return Pixels(
        rgb=jnp.asarray(framed.rgb),
        mask=jnp.asarray(framed.mask),
        order=jnp.asarray(order),
        inside=jnp.asarray(inside),
        valid=jnp.asarray(valid),
        intrinsics=jnp.asarray(framed.raster_intrinsics, jnp.float32),
        cam_to_world=jnp.asarray(framed.cam_to_world, jnp.float32),
    )


def _inputs(files: TrainingFiles) -> list[dict[str, Any]]:
    """Provenance of the cameras, the masks and the images that have a camera."""
    with artifact.reading(
        files.cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {files.data}"
    ) as file:
        images = artifact.strings(file["image"])
    if files.masks and not files.masks.is_file():
        raise InputError(
            f"{files.masks} does not exist; make it with `nerfgen segment {files.data}` or train with --no-masks"
        )
    folder = artifact.folder_record(images, digest_images(files.data, images))
    return [artifact.file_record(path) for path in (files.cameras, files.masks) if path] + [folder]


class _Run:
    """The moving parts of one run."""

    def __init__(self, preset: Preset, bounds: tuple[float, float, float], framed: Framed, seed: int) -> None:
        self.preset, self.bounds, self.framed = preset, bounds, framed
        self.pixels = to_device(framed)
        self.state: State = initial_state(preset, bounds, self.pixels, seed)
        self.step = make_step(preset, bounds, seed)
        self.log: list[tuple[float, ...]] = []
        self.seconds_before = 0.0
        self.progress = 0.0

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.state, self.log, self.seconds_before = checkpoint.state, checkpoint.log, checkpoint.seconds

    def start(self, preset: Preset, minutes: float) -> None:
        """Set the stopping rules and start the clock."""
        self.steps, self.limit = preset.steps, 60.0 * minutes
        self.done = self.first = int(self.state.step)
        # The clock starts when the step is compiled, so that a time limit buys training.
        _, terms = self.step(self.state, self.pixels, jnp.float32(0))
        jax.block_until_ready(terms)
        self.began = time.monotonic()
        self.progress = self._progress()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def advance(self) -> None:
        """Some steps, and a look at their losses."""
        count = _LOG_EVERY if not self.steps else min(_LOG_EVERY, self.steps - self.done)
        sums: dict[str, Any] = {}
        for _ in range(count):
            self.state, terms = self.step(self.state, self.pixels, jnp.float32(min(self._progress(), 1.0)))
            sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
            self.done += 1
        means = {name: float(value) / count for name, value in sums.items()}
        if not np.isfinite(means["loss"]):
            raise DivergedError(
                f"training diverged before step {self.done}: the loss is not a number; "
                "lower the rates, for instance --set learning_rate=0.002 --set camera_learning_rate=0"
            )
        psnr = -10 * np.log10(max(means["rgb"] / 3, 1e-12))
        self.log.append((self.done, *(means[name] for name in _LOG_NAMES), psnr))
        self.progress = self._progress()

    def shown(self) -> tuple[int, int, str]:
        """Steps done, steps expected, and the state in words."""
        _, rgb, mask, hard, psnr = np.mean(self.log[-10:], axis=0)
        rays = self.preset.images_per_batch * self.preset.rays_per_image * self.rate()
        total = self.steps or max(self.done, round(self.done / max(self.progress, 1e-6)))
        note = f"rgb {rgb:.4f} mask {mask:.4f} hard {hard:.4f} PSNR {psnr:.1f} dB, {rays:,.0f} rays/s"
        return self.done, total, note

    def rate(self) -> float:
        """Steps a second since the run was started or resumed."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-6)

    def model(self, class_name: str) -> Model:
        """The model as it stands."""
        corrections = self.state.parameters["cameras"]
        poses = np.asarray(self.framed.cam_to_world)
        if self.preset.camera_learning_rate > 0:
            poses = np.asarray(
                corrected_cameras(jnp.asarray(poses, jnp.float32), corrections, corrections.mean(0)),
                np.float64,
            )
        return Model(
            object_class=class_name,
            preset=asdict(self.preset),
            config=self.preset.field_config(self.bounds),
            parameters=jax.tree.map(np.asarray, self.state.parameters["field"]),
            latents=np.asarray(self.state.parameters["latents"]),
            occupancy=np.asarray(self.state.occupancy),
            images=self.framed.images,
            image_size=self.framed.image_size,
            intrinsics=self.framed.intrinsics,
            cam_to_world=poses,
            window=self.framed.window,
            canonical_index=self.framed.canonical_index,
            canonical=self.framed.canonical,
            steps=self.done,
        )

    def summary(self) -> dict[str, Any]:
        _, rgb, mask, hard, psnr = np.mean(self.log[-10:], axis=0)
        return {
            "images": len(self.framed.images),
            "skipped": self.framed.skipped,
            "steps": self.done,
            "psnr_db": float(psnr),
            "loss_rgb": float(rgb),
            "loss_mask": float(mask),
            "loss_hard": float(hard),
            "rays_per_second": self.preset.images_per_batch * self.preset.rays_per_image * self.rate(),
            "seconds": self.seconds,
        }

    def _progress(self) -> float:
        by_steps = self.done / self.steps if self.steps else 0.0
        by_time = self.seconds / self.limit if self.limit else 0.0
        return max(by_steps, by_time)
