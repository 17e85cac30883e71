"""The moving parts of one run: state, data, clock and log."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from nerfgen.errors import NerfgenError
from nerfgen.field import Model
from nerfgen.objectclass import ObjectClass
from nerfgen.stopping import Stop
from nerfgen.train.cache import PixelCache
from nerfgen.train.cameras import RefinedCameras
from nerfgen.train.checkpoint import LOG, Checkpoint
from nerfgen.train.execution import Execution
from nerfgen.train.preset import Preset
from nerfgen.train.rows import table_rows
from nerfgen.train.source import Data, bytes_needed, choose_placement
from nerfgen.train.start import Start
from nerfgen.train.step import (
    OCCUPANCY_SIZE,
    TERMS,
    State,
    corrected_cameras,
    hull_of,
    initial_state,
    make_step,
    no_totals,
    placed,
    with_focal,
)

# Each look at the losses waits for the device: rarely where steps are quick, and at most every so many.
_LOG_EVERY = 20
_WORK_BETWEEN_LOOKS = 1 << 29
_HULL_IMAGES = 400
_HULL_SIZE = 64
# A loss that is so many times that of the first entry will not come back.
_DIVERGED = 2.0


class DivergedError(NerfgenError):
    """The loss is no longer a number, or far above where it began."""

    exit_code = 1


@dataclass(frozen=True)
class Limits:
    """When to stop and to save: steps (0: no limit), minutes (0: no limit), minutes between checkpoints."""

    steps: int
    minutes: float
    checkpoint_minutes: float


class Run:
    """One run; a context manager, because the data may be read by a thread."""

    def __init__(
        self,
        preset: Preset,
        described: ObjectClass,
        cache: PixelCache,
        seed: int,
        execution: Execution,
        mesh: Mesh,
        start: Start | None = None,
    ) -> None:
        self.preset, self.described, self.cache, self.seed, self.mesh = preset, described, cache, seed, mesh
        self._start = start
        photographs = len(cache.images) - (len(start.rows) if start else 0)
        self.rows = table_rows(cache.instance[:photographs], start)
        self.state: State
        self.totals: jax.Array
        self.log: list[tuple[float, ...]] = []
        self.seconds_before = 0.0
        self.done = self.first = 0
        placement = choose_placement(execution.placement, bytes_needed(cache), list(mesh.devices.flat))
        self.data = Data(cache, placement, preset, seed, mesh, num_pictures=self.rows.pictures)
        work = preset.images_per_batch * preset.rays_per_image * preset.samples * preset.width * preset.depth
        self.log_every = min(_LOG_EVERY, max(1, _WORK_BETWEEN_LOOKS // work))
        self._step = make_step(
            preset,
            described.bounds,
            self.rows,
            seed,
            mesh,
            images_at_a_time=execution.images_at_a_time(preset, mesh),
            precision=execution.effective_precision(mesh),
            rematerialise=execution.rematerialise,
            streamed=self.data.streamed,
        )

    @property
    def table_sizes(self) -> dict[str, int]:
        """Rows of the state's tables."""
        return {"latents": self.rows.count, "cameras": len(self.cache.images)}

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.data.close()

    def fresh_state(self) -> State:
        """Where a run begins."""
        if self._start:
            return self._initial(self._start.model.occupancy)
        count = len(self.cache.images)
        chosen = np.arange(0, count, max(1, count // _HULL_IMAGES))
        # Every so many pixels are enough for so coarse a grid, and take the same memory at any resolution.
        stride = max(1, self.cache.size // _HULL_SIZE)
        masks = np.stack(
            [raster[stride // 2 :: stride, stride // 2 :: stride, 3] for raster in self.cache.rasters(chosen)]
        )
        shrunk = np.array([1 / stride, 1 / stride, 1.0])[:, None]
        intrinsics = self.cache.raster_intrinsics[chosen] * shrunk
        hull = hull_of(masks, intrinsics, self.cache.cam_to_world[chosen], self.described.bounds)
        return self._initial(hull)

    def _initial(self, occupancy: np.ndarray) -> State:
        return initial_state(self.preset, self.described.bounds, self.rows, self.seed, occupancy, self._start)

    def state_shapes(self) -> State:
        """Structure and shapes of a state, with no values."""
        grid = np.zeros((OCCUPANCY_SIZE,) * 3, np.float32)
        return jax.eval_shape(lambda: self._initial(grid))

    def begin(self) -> None:
        """Start afresh."""
        self.state, self.totals = placed(self.fresh_state(), self.mesh), no_totals(self.mesh)

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.log, self.seconds_before = checkpoint.log, checkpoint.seconds
        self.done = self.first = int(checkpoint.state.step)
        self.state = placed(checkpoint.state, self.mesh)
        self.totals = jax.device_put(checkpoint.totals, no_totals(self.mesh).sharding)

    def start(self, limits: Limits) -> None:
        """Set the stopping rules, compile the step and start the clock, so that a time limit buys training."""
        self.limits = limits
        arguments = (self.state, self.totals, self.data.batch(self.done), np.float32(0))
        self.compiled = self._step.lower(*arguments).compile()
        self.began = self._saved = time.monotonic()
        self.data.waited_before = self.data.waited
        self.progress = self._progress()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def advance(self, stop: Stop) -> dict[str, Any] | None:
        """Steps up to the next entry of the log, and that entry; None if the run was asked to stop before it."""
        target = self.done - self.done % self.log_every + self.log_every
        if self.limits.steps:
            target = min(target, self.limits.steps)
        while self.done < target and not stop:
            share = np.float32(min(self._progress(), 1.0))
            batch = self.data.batch(self.done)
            self.state, self.totals = self.compiled(self.state, self.totals, batch, share)
            self.done += 1
        self.progress = self._progress()
        return self._look() if self.done == target else None

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved > 60 * self.limits.checkpoint_minutes

    def checkpoint(self) -> Checkpoint:
        """The run as it stands."""
        self._saved = time.monotonic()
        return Checkpoint(self.state, np.asarray(self.totals), self.log, self.seconds)

    def shown(self) -> tuple[int, int, str]:
        """Steps done, steps expected, and the state in words."""
        entry = self._recent()
        total = self.limits.steps or max(self.done, round(self.done / max(self.progress, 1e-6)))
        note = (
            f"rgb {entry['rgb']:.4f} mask {entry['mask']:.4f} hard {entry['hard']:.4f} "
            f"PSNR {entry['psnr_db']:.1f} dB, {self.rays_per_second():,.0f} rays/s"
        )
        if self.data.streamed:
            note += f", {self.data_wait_share():.0%} waiting for data"
        return self.done, total, note

    def rays_per_second(self) -> float:
        """Since the run was started or resumed."""
        rays = self.preset.images_per_batch * self.preset.rays_per_image
        return rays * (self.done - self.first) / max(time.monotonic() - self.began, 1e-6)

    def data_wait_share(self) -> float:
        """Share of the time that the step waited for data."""
        waited = self.data.waited - self.data.waited_before
        return waited / max(time.monotonic() - self.began, 1e-6)

    def cameras(self) -> RefinedCameras:
        """The cameras of all photographs as they stand."""
        photographs = self.rows.photographs
        intrinsics, poses = self.cache.intrinsics[:photographs], self.cache.cam_to_world[:photographs]
        corrections = self.corrections()
        if corrections is not None:
            moved = corrected_cameras(
                jnp.asarray(poses), jnp.asarray(corrections[:photographs]), jnp.zeros(6)
            )
            poses = np.asarray(moved, np.float64)
        if self.preset.focal_learning_rate > 0:
            factor = jnp.exp(self.state.networks["log_focal"])
            changed = with_focal(jnp.asarray(intrinsics), jnp.asarray(poses), factor)
            intrinsics, poses = (np.asarray(array, np.float64) for array in changed)
        return RefinedCameras(self.cache.images[:photographs], intrinsics, poses)

    def all_cameras(self) -> RefinedCameras:
        """The same, after those of a former model's rows, whose photographs may be in the folder too."""
        own = self.cameras()
        if self._start is None:
            return own
        former = self._start.model
        return RefinedCameras(
            [*former.images, *own.images],
            np.concatenate([former.intrinsics, own.intrinsics]),
            np.concatenate([former.cam_to_world, own.cam_to_world]),
        )

    def model(self) -> Model:
        """The model as it stands; of the photographs of one object, the first stands for its row."""
        state, cache, first, further = self.state, self.cache, self.rows.first, self.rows.further
        cameras = self.cameras()
        columns: dict[str, Any] = {
            "image_size": cache.image_size[first],
            "intrinsics": cameras.intrinsics[first],
            "cam_to_world": cameras.cam_to_world[first],
            "window": cache.window[first],
            "further_row": self.rows.of[further],
        }
        names: dict[str, Any] = {
            "images": [cache.images[place] for place in first],
            "digests": [cache.digests[place] for place in first],
            "further_images": [cache.images[place] for place in further],
            "further_digests": [cache.digests[place] for place in further],
        }
        if self._start:
            former = self._start.model
            names = {name: [*getattr(former, name), *values] for name, values in names.items()}
            columns = {
                name: np.concatenate([getattr(former, name), values]) for name, values in columns.items()
            }
        return Model(
            object_class=self.described,
            preset=asdict(self.preset),
            config=self.preset.field_config(self.described.bounds),
            parameters=jax.tree.map(np.asarray, state.networks)["field"],
            latents=np.asarray(state.latents.values)[: self.table_sizes["latents"]],
            occupancy=np.asarray(state.occupancy),
            **names,
            **columns,
            canonical_index=cache.canonical_index,
            canonical=cache.canonical,
            steps=self.done,
        )

    def corrections(self) -> Float[np.ndarray, "images 6"] | None:
        """What training added to the cameras (:func:`corrected_cameras`); None if they stay.

        The mean is taken off, unless a former model's objects hold the world in its place.
        """
        if self.preset.camera_learning_rate <= 0:
            return None
        corrections = np.asarray(self.state.cameras.values, np.float64)[: len(self.cache.images)]
        mean = 0.0 if self._start else np.asarray(self.state.camera_sum, np.float64) / len(corrections)
        return corrections - mean

    def summary(self) -> dict[str, Any]:
        entry = self._recent()
        return {
            "images": self.rows.photographs,
            "rows": self.table_sizes["latents"],
            "skipped": self.cache.skipped,
            "steps": self.done,
            "psnr_db": entry["psnr_db"],
            "loss_rgb": entry["rgb"],
            "loss_mask": entry["mask"],
            "loss_hard": entry["hard"],
            "rays_per_second": self.rays_per_second(),
            "data": self.data.placement,
            "data_wait_share": self.data_wait_share(),
            "devices": self.mesh.size,
            "seconds": self.seconds,
        }

    def _look(self) -> dict[str, Any]:
        """Read the losses since the last entry."""
        count = self.done - (self.log[-1][0] if self.log else 0)
        means = dict(zip(TERMS, np.asarray(self.totals, np.float64) / count, strict=True))
        self.totals = no_totals(self.mesh)
        first = self.log[0][1 + TERMS.index("loss")] if self.log else means["loss"]
        if not all(np.isfinite(value) for value in means.values()) or means["loss"] > _DIVERGED * first:
            raise DivergedError(
                f"training diverged before step {self.done}: the loss is {means['loss']:.3g}, from {first:.3g}; "
                "lower the rates, for instance --set learning_rate=0.002 --set camera_learning_rate=0; "
                "a checkpoint, if there was one, is left"
            )
        psnr = -10 * np.log10(max(means["rgb"] / 3, 1e-12))
        self.log.append((self.done, *means.values(), psnr))
        decay = self.preset.final_rate ** min(self.progress, 1.0)
        return {name: float(value) for name, value in means.items()} | {
            "step": self.done,
            "psnr_db": float(psnr),
            "learning_rate": self.preset.learning_rate * decay,
            "rays_per_second": self.rays_per_second(),
            "data_wait_share": self.data_wait_share(),
            "seconds": self.seconds,
        }

    def _recent(self) -> dict[str, float]:
        """Means over the last entries."""
        return dict(zip(LOG, (float(value) for value in np.mean(self.log[-10:], axis=0)), strict=True))

    def _progress(self) -> float:
        by_steps = self.done / self.limits.steps if self.limits.steps else 0.0
        by_time = self.seconds / (60.0 * self.limits.minutes) if self.limits.minutes else 0.0
        return max(by_steps, by_time)
