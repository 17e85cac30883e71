"""Latent fitting: codes for photographs that are not in the table, with the network fixed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nerfgen.errors import InputError
from nerfgen.field import FieldConfig, Model
from nerfgen.generate.reconstruct import (
    ADAM,
    COMPILED_QUICKLY,
    RAYS,
    Network,
    network_of,
    pauses,
    photograph_losses,
    reconstruction_psnr,
    together,
)
from nerfgen.generate.sampling import Principal, principal_axes
from nerfgen.parallel import Progress, silent
from nerfgen.train.batch import Pixels
from nerfgen.train.data import Framed
from nerfgen.train.execution import keep_freed_memory
from nerfgen.train.guess import guess_features
from nerfgen.train.preset import Preset
from nerfgen.train.source import framed_pixels
from nerfgen.train.step import corrected_cameras

Start = Literal["guess", "mean"]

STEPS = 100
# Adam's rates at the start, of codes in standard deviations and of cameras, and the share of them at the end.
_RATE, _CAMERA_RATE, _FINAL = 0.2, 5e-3, 0.1
_PRIOR = 3e-3
# A second attempt goes so much more slowly.
_SLOWER = 0.5


@dataclass(frozen=True)
class Fitted:
    """Codes of photographs.

    Attributes:
        latents: one code per photograph; the table's mean where the fit failed.
        cam_to_world: cameras, refined together with the codes if they were to be.
        psnr: of the reconstruction, dB, over all pixels of the framed photograph.
        iterations: steps taken for each photograph.
        converged: whether the fit stayed finite and made the loss smaller.
    """

    latents: Float[np.ndarray, "images latent"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    psnr: Float[np.ndarray, "images"]
    iterations: Int[np.ndarray, "images"]
    converged: Bool[np.ndarray, "images"]


def fit_latents(
    model: Model,
    framed: Framed,
    *,
    steps: int = STEPS,
    start: Start = "guess",
    fit_cameras: bool | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Optimise a new code per photograph, many at once, with the losses of training and a prior.

    The unknowns are the code's coefficients along the principal axes of the table, in standard deviations, and six
    numbers that correct the camera. The prior is Gaussian: it costs ``3e-3`` times the mean squared coefficient,
    and no code goes farther from the mean than the farthest of the table.
    What is found for a photograph does not hang on which others are fitted with it, but for rounding.

    A fit that is not finite, or whose loss ends above where it started, is tried once more from the mean at half the
    rates; if that fails too, the photograph has the mean code and its camera as it was.

    Args:
        framed: photographs with masks and cameras, framed at the model's size.
        start: ``guess`` begins at the model's first guess, if it has one; ``mean`` at the mean of the table.
        fit_cameras: refine the cameras too; by default if those of training were.
        progress: told of steps, over all groups of photographs.

    Raises:
        InputError: ``start`` is neither.
    """
    if start not in get_args(Start):
        raise InputError(f"a fit starts at {' or '.join(get_args(Start))}, not at {start!r}")
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    task = _Task(model, framed, principal_axes(model.latents).only_varying(), fit_cameras, steps, seed)
    every = np.arange(len(framed.images))
    mean = task.mean()
    begun = task.guess() if start == "guess" and model.guess else mean
    found, converged = task.attempt(every, begun, 1.0, progress)
    iterations = np.full(len(every), steps)
    failed = np.flatnonzero(~converged)
    if len(failed):
        again, good = task.attempt(failed, task.mean(), _SLOWER, progress)
        iterations[failed] += steps
        converged[failed] = good
        for name, values in found.items():
            values[failed] = np.where(good[:, None], again[name][failed], mean[name][failed])
    latents, poses = task.shown(found, every)
    psnr = reconstruction_psnr(model, framed, latents, poses)
    return Fitted(latents, poses, psnr, iterations, converged)


# Codes as coefficients along the principal axes, in standard deviations, and corrections of the cameras.
_Unknown = dict[str, np.ndarray]


class _Task:
    """Photographs to be fitted, and how."""

    def __init__(
        self,
        model: Model,
        framed: Framed,
        principal: Principal,
        fit_cameras: bool | None,
        steps: int,
        seed: int,
    ) -> None:
        self.model, self.framed, self.principal, self.steps = model, framed, principal, steps
        self.preset = Preset(**model.preset)
        self.moving = self.preset.camera_learning_rate > 0 if fit_cameras is None else fit_cameras
        self._key = jax.random.key(seed)
        self._network = network_of(model)
        known = principal.coefficients(model.latents)
        self._space = _Space(
            jnp.asarray(principal.mean, jnp.float32),
            jnp.asarray(principal.deviation[:, None] * principal.axes, jnp.float32),
            jnp.float32(np.linalg.norm(known, axis=1).max()),
        )

    def mean(self) -> _Unknown:
        """The mean code, and cameras as they are."""
        count = len(self.framed.images)
        return {"codes": np.zeros((count, len(self.principal.deviation))), "cameras": np.zeros((count, 6))}

    def guess(self) -> _Unknown:
        """The model's first guess of everything that is not known."""
        guess, principal, begun = self.model.guess, self.principal, self.mean()
        assert guess is not None
        rasters = np.concatenate([self.framed.rgb, self.framed.mask[..., None]], axis=-1)
        masked = self.preset.lambda_mask > 0
        features = guess_features(rasters, self.framed.cam_to_world, masked=masked)
        guessed = features @ guess.weights + guess.offset
        latents, corrections = np.split(guessed, [len(principal.mean)], axis=1)
        begun["codes"] = principal.coefficients(latents)
        if self.moving and corrections.shape[1]:
            begun["cameras"] = corrections
        return begun

    def shown(self, unknown: _Unknown, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes and cameras of some photographs."""
        latents = self.principal.codes(unknown["codes"][chosen]).astype(np.float32)
        poses = self.framed.cam_to_world[chosen]
        if self.moving:
            poses = corrected_cameras(poses, unknown["cameras"][chosen], np.zeros(6))  # type: ignore[arg-type]
        return latents, poses

    def attempt(
        self, chosen: np.ndarray, begun: _Unknown, speed: float, progress: Progress
    ) -> tuple[_Unknown, np.ndarray]:
        """Fit some photographs; what is found stands at their places, and whether it is good is told in their order."""
        count = len(self.framed.images)
        found = self.mean()
        good = np.zeros(count, bool)
        groups = list(together(chosen, count, self.preset, RAYS))
        rates = {"codes": speed * _RATE, "cameras": speed * _CAMERA_RATE * self.moving}
        plan = _Plan(self._key, jnp.float32(self.steps), rates)
        for number, group in enumerate(groups):
            own = group.places[: group.real]
            pixels = framed_pixels(self.framed.some(group.places))
            search = _search_from({name: values[group.places] for name, values in begun.items()})
            for until in pauses(self.steps):
                search = jax.block_until_ready(
                    _advance(
                        self.model.config,
                        self.preset,
                        self._network,
                        self._space,
                        pixels,
                        plan,
                        search,
                        until,
                    )
                )
                progress(number * self.steps + until, len(groups) * self.steps, f"{len(chosen)} codes")
            values = {name: np.asarray(array)[: group.real] for name, array in search.unknown.items()}
            finite = np.all([np.isfinite(array).all(-1) for array in values.values()], axis=0)
            for name, array in values.items():
                found[name][own] = np.where(finite[:, None], array, 0.0)
            good[own] = finite
            # Few rays prove little: where they are met worse than at the start, the whole picture is asked.
            worse = own[finite & ~np.asarray(search.ended <= search.started)[: group.real]]
            before, after = (
                reconstruction_psnr(self.model, self.framed.some(worse), *self.shown(of, worse))
                for of in (begun, found)
            )
            good[worse] = after >= before
        return found, good[chosen]


class _Space(NamedTuple):
    """The space of codes: mean + coefficients @ axes, the axes as long as the standard deviations.

    Attributes:
        reach: norm of the coefficients of the row that is farthest from the mean.
    """

    mean: Float[Array, "latent"]
    axes: Float[Array, "components latent"]
    reach: Float[Array, ""]


class _Plan(NamedTuple):
    """Random numbers, steps in all, and rates at the start by name of the unknown."""

    key: Array
    steps: Float[Array, ""]
    rates: dict[str, float]


class _Search(NamedTuple):
    """A fit on its way.

    Attributes:
        unknown: ``codes``, coefficients in standard deviations, and ``cameras``, corrections.
        moments: of Adam.
        step: steps done.
        started, ended: loss of each photograph at the first step and at the last, over the same rays.
    """

    unknown: dict[str, Array]
    moments: Any
    step: Int[Array, ""]
    started: Float[Array, "images"]
    ended: Float[Array, "images"]


def _search_from(unknown: dict[str, np.ndarray]) -> _Search:
    on_device = {name: jnp.asarray(values, jnp.float32) for name, values in unknown.items()}
    nothing = jnp.zeros(len(on_device["codes"]))
    return _Search(on_device, ADAM.init(on_device), jnp.int32(0), nothing, nothing)


@partial(jax.jit, static_argnums=(0, 1), compiler_options=COMPILED_QUICKLY)
def _advance(
    config: FieldConfig,
    preset: Preset,
    network: Network,
    space: _Space,
    pixels: Pixels,
    plan: _Plan,
    search: _Search,
    until: Int[Array, ""],
) -> _Search:
    """Steps of Adam on all codes and cameras, up to a number of steps."""

    def loss(unknown: dict[str, Array], key: Array) -> tuple[Array, Array]:
        codes = space.mean + unknown["codes"] @ space.axes
        poses = corrected_cameras(pixels.cam_to_world, unknown["cameras"], jnp.zeros(6))
        each = photograph_losses(config, preset, network, codes, poses, pixels, key)
        each = each + _PRIOR * jnp.sum(unknown["codes"] ** 2, axis=-1) / max(len(space.axes), 1)
        return jnp.sum(each), each

    def step(_: Any, search: _Search) -> _Search:
        # The last step sees the rays of the first, so that their losses can be compared.
        number = jnp.where(search.step == plan.steps - 1, 0, search.step)
        gradient, each = jax.grad(loss, has_aux=True)(search.unknown, jax.random.fold_in(plan.key, number))
        moves, moments = ADAM.update(gradient, search.moments)
        decay = _FINAL ** (search.step / plan.steps)
        unknown = {
            name: search.unknown[name] - plan.rates[name] * decay * move for name, move in moves.items()
        }
        norm = jnp.linalg.norm(unknown["codes"], axis=-1, keepdims=True)
        unknown["codes"] = unknown["codes"] * jnp.minimum(1.0, space.reach / jnp.maximum(norm, 1e-9))
        started = jnp.where(search.step == 0, each, search.started)
        return _Search(unknown, moments, search.step + 1, started, each)

    return jax.lax.fori_loop(search.step, until, step, search)
