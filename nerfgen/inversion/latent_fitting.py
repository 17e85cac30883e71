"""Latent fitting: latent codes of images that are not in the table, with fixed networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from nerfgen.data import FramedImages, PixelTable, framed_pixels
from nerfgen.errors import InputError
from nerfgen.field import FieldConfig
from nerfgen.geometry import corrected_cameras
from nerfgen.inversion.code_search import search_entries
from nerfgen.inversion.initial_guess import guess_features
from nerfgen.inversion.objective import Space, Unknown, code_prior, losses, within_reach
from nerfgen.inversion.reconstruction import (
    ADAM,
    RAYS,
    BatchOf,
    Network,
    device_network,
    image_batches,
    optimise_batch,
    reconstruction_psnr,
)
from nerfgen.inversion.settings import Start
from nerfgen.memory import keep_freed_memory
from nerfgen.model import Model, Recipe, dequantised
from nerfgen.optimize import quickly_compiled
from nerfgen.parallel import Progress, silent

STEPS = 100
# Adam's initial rates of latent codes (in standard deviations) and of cameras, and the final fraction of both.
_RATE, _CAMERA_RATE, _FINAL = 0.2, 5e-3, 0.1
_LOCAL_RATE = 0.2
# Factor of the rates in the second attempt.
_SLOWER = 0.5


@dataclass(frozen=True)
class Fitted:
    """Latent codes of images.

    Attributes:
        latents: of each image; the table's mean where the fit failed.
        cam_to_world: cameras, refined together with the latent codes if that was requested.
        psnr: of the reconstruction, dB, over all pixels of the framed image.
        iterations: number of steps for each image.
        converged: whether the fit stayed finite and reduced the loss.
    """

    latents: Float[np.ndarray, "images latent"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    psnr: Float[np.ndarray, "images"]
    iterations: Int[np.ndarray, "images"]
    converged: Bool[np.ndarray, "images"]


def fit_latents(
    model: Model,
    framed: FramedImages,
    *,
    steps: int = STEPS,
    start: Start = "guess",
    refine_cameras: bool | None = None,
    residual: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Fit a latent code to each image, with the losses of training and a prior.

    The unknowns are the coefficients along the principal axes of the table, the deviations of the local features from
    what these predict, both in standard deviations, and six numbers that correct the camera. The priors are Gaussian:
    they cost ``3e-3`` times the mean square of either (``1e-2`` for the coefficients of a model with local features),
    and no coefficients go farther from the mean than the farthest of the table. A moved camera costs the displacement
    of the canonical keypoints, as in training. The result is independent of the rest of the batch, up to rounding.

    A fit that is not finite, or whose final loss exceeds the first, is repeated once from the mean at half the rates.
    If that fails too, the image keeps its camera and has the mean latent code.

    Of a model with vector-quantised codes, the entries of its codebooks are then searched
    (:func:`nerfgen.inversion.code_search.search_entries`), and everything else is fitted once more around them.

    Args:
        framed: images with masks and cameras, framed at the model's size.
        start: ``guess`` starts at the model's initial guess, if it has one; ``mean`` at the mean of the table.
        refine_cameras: refine the cameras too; by default if training did.
        residual: of vector-quantised codes: let the global dimensions leave their entries in the end.
        progress: receives the steps over all batches.

    Raises:
        InputError: ``steps`` or ``start`` is out of range, or there are no entries for a ``residual``.
    """
    if residual and model.codebook is None:
        raise InputError("`residual` is of vector-quantised latent codes, and the model has continuous ones")
    task = FitTask(model, framed, refine_cameras, steps, seed)
    every = np.arange(len(framed.images))
    found, converged, iterations = task.fit(start, progress)
    if model.codebook is not None:
        indices = task.search(found, every)
        entries = dequantised(model.codebook, indices)
        found, refitted = task.around(entries, found, every, progress, residual=residual)
        iterations += steps * refitted
    latents, poses = task.solution(found, every)
    if model.codebook is not None and not residual:
        latents[:, : entries.shape[1]] = entries
    psnr = reconstruction_psnr(model, framed, latents, poses)
    return Fitted(latents, poses, psnr, iterations, converged)


class FitTask:
    """Images to fit, and how.

    Attributes:
        model, framed, steps: as :func:`fit_latents` takes them.
        principal: the table's axes that vary.
        moving: whether cameras are refined.
        network: the model's networks.
        space: the latent space.
        key: random key of the whole fit.

    Raises:
        InputError: ``steps`` is out of range.
    """

    def __init__(
        self,
        model: Model,
        framed: FramedImages,
        refine_cameras: bool | None,
        steps: int,
        seed: int,
    ) -> None:
        if steps < 1:
            raise InputError(f"`steps` has to be at least 1, not {steps}")
        if jax.default_backend() == "cpu":
            keep_freed_memory()
        self.model, self.framed, self.steps = model, framed, steps
        self.principal = principal = model.principal.only_varying()
        self.recipe = model.recipe
        self.moving = self.recipe.camera_learning_rate > 0 if refine_cameras is None else refine_cameras
        self.key = jax.random.key(seed)
        self.network = device_network(model)
        self.space = Space.of(model, principal)

    def mean(self) -> Unknown:
        """The mean latent code, and cameras without correction."""
        count = len(self.framed.images)
        return {
            "codes": np.zeros((count, len(self.principal.deviation))),
            "local": np.zeros((count, len(self.principal.local_deviation))),
            "cameras": np.zeros((count, 6)),
        }

    def guess(self) -> Unknown:
        """The model's initial guess of all unknowns."""
        guess, principal, initial = self.model.guess, self.principal, self.mean()
        assert guess is not None
        rasters = np.concatenate([self.framed.rgb, self.framed.mask[..., None]], axis=-1)
        masked = self.recipe.lambda_mask > 0
        features = guess_features(rasters, self.framed.cam_to_world, masked=masked)
        if features.shape[1] != len(guess.weights):
            raise InputError(
                f"the model guesses from {len(guess.weights)} features, not {features.shape[1]}; "
                "start at the mean (`start`)"
            )
        guessed = features @ guess.weights + guess.offset
        whole, corrections = np.split(guessed, [self.model.config.latent_size], axis=1)
        latents = np.tile(principal.mean, (len(whole), 1))
        latents[:, : whole.shape[1]] = whole
        initial["codes"] = principal.coefficients(latents)
        if self.moving and corrections.shape[1]:
            initial["cameras"] = corrections
        return initial

    def fit(self, start: Start, progress: Progress) -> tuple[Unknown, np.ndarray, np.ndarray]:
        """Fit all images; those that fail are tried once more from the mean at half the rates.

        Returns:
            Unknowns, those of the mean where both attempts failed; which fits converged; and their numbers of steps.

        Raises:
            InputError: ``start`` is unknown.
        """
        if start not in get_args(Start):
            raise InputError(f"`start` is one of {', '.join(get_args(Start))}, not {start!r}")
        every = np.arange(len(self.framed.images))
        mean = self.mean()
        initial = self.guess() if start == "guess" and self.model.guess else mean
        found, converged = self.attempt(every, initial, 1.0, progress)
        iterations = np.full(len(every), self.steps)
        failed = np.flatnonzero(~converged)
        if len(failed):
            again, good = self.attempt(failed, mean, _SLOWER, progress)
            iterations[failed] += self.steps
            converged[failed] = good
            for name, values in found.items():
                values[failed] = np.where(good[:, None], again[name][failed], mean[name][failed])
        return found, converged, iterations

    def rates(self, speed: float = 1.0) -> dict[str, float]:
        """Initial rates of the unknowns, all times ``speed``."""
        return {
            "codes": speed * _RATE,
            "local": speed * _LOCAL_RATE,
            "cameras": speed * _CAMERA_RATE * self.moving,
        }

    def solution(self, unknown: Unknown, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latent codes and cameras of the chosen images."""
        latents = self.principal.codes(unknown["codes"][chosen]).astype(np.float32)
        latents[:, self.model.config.latent_size :] += (
            unknown["local"][chosen] * self.principal.local_deviation
        )
        poses = self.framed.cam_to_world[chosen]
        if self.moving:
            poses = corrected_cameras(poses, unknown["cameras"][chosen], np.zeros(6))
        return latents, poses

    def search(self, found: Unknown, chosen: Int[np.ndarray, "chosen"]) -> Int[np.ndarray, "chosen groups"]:
        """The entries of fitted codes."""
        assert self.model.codebook is not None
        codebook = jnp.asarray(self.model.codebook)
        indices = []
        for batch in image_batches(chosen, len(self.framed.images), self.recipe, RAYS):
            latents, poses = self.solution(found, batch.images)
            pixels = framed_pixels(self.framed.subset(batch.images))
            fixed = (self.model.config, self.recipe, self.network, codebook)
            codes, cameras = jnp.asarray(latents), jnp.asarray(poses, jnp.float32)
            best = search_entries(*fixed, codes, cameras, pixels, self.key)
            indices.append(np.asarray(best)[: batch.num_images])
        return np.concatenate(indices)

    def around(
        self,
        entries: Float[np.ndarray, "images dimensions"],
        found: Unknown,
        chosen: np.ndarray,
        progress: Progress,
        *,
        residual: bool,
    ) -> tuple[Unknown, np.ndarray]:
        """The unknowns fitted again with global dimensions at, or with a ``residual`` near, these entries.

        Returns:
            The unknowns, and which images were fitted again; the others have what they had, at the entries.
        """
        latents = np.zeros((len(entries), len(self.principal.mean)))
        latents[:, : entries.shape[1]] = entries
        center = self.principal.coefficients(latents)
        start = found | {"codes": center}
        speed = 1.0 if residual else 0.0
        again, good = self.attempt(chosen, start, 1.0, progress, center=center, code_speed=speed)
        values = {name: np.where(good[:, None], again[name], start[name]) for name in start}
        return values, good

    def attempt(
        self,
        chosen: np.ndarray,
        initial: Unknown,
        speed: float,
        progress: Progress,
        *,
        center: Float[np.ndarray, "images components"] | None = None,
        code_speed: float = 1.0,
    ) -> tuple[Unknown, np.ndarray]:
        """Fit the chosen images.

        Args:
            speed: factor of all rates.
            center: coefficients about which the prior is, for each of all images; by default the mean's.
            code_speed: further factor of the rate of the coefficients.

        Returns:
            Unknowns of all images, those of the others being the mean, and whether the fit of each chosen one is good.
        """
        count = len(self.framed.images)
        found = self.mean()
        good = np.zeros(count, bool)
        batches = list(image_batches(chosen, count, self.recipe, RAYS))
        rates = self.rates(speed)
        rates["codes"] *= code_speed
        center = found["codes"] if center is None else center
        for number, batch in enumerate(batches):
            own = batch.images[: batch.num_images]
            pixels = framed_pixels(self.framed.subset(batch.images))
            about = jnp.asarray(center[batch.images], jnp.float32)
            plan = _Plan(self.key, jnp.float32(self.steps), rates, about)
            search = _search_from({name: values[batch.images] for name, values in initial.items()})
            fixed = (self.model.config, self.recipe, self.network, self.space, pixels, plan)
            part = BatchOf(number, len(batches), f"{len(chosen)} latent codes")
            search = optimise_batch(partial(_advance, *fixed), search, self.steps, part, progress)
            values = {name: np.asarray(array)[: batch.num_images] for name, array in search.unknown.items()}
            finite = np.all([np.isfinite(array).all(-1) for array in values.values()], axis=0)
            for name, array in values.items():
                found[name][own] = np.where(finite[:, None], array, 0.0)
            good[own] = finite
            # The losses of a few rays are noisy: where they have grown, all pixels decide.
            worse = own[finite & ~np.asarray(search.ended <= search.started)[: batch.num_images]]
            before, after = (
                reconstruction_psnr(self.model, self.framed.subset(worse), *self.solution(of, worse))
                for of in (initial, found)
            )
            good[worse] = after >= before
        return found, good[chosen]


def rate_decay(step: Int[Array, ""], steps: Float[Array, ""]) -> Float[Array, ""]:
    """Factor of all rates at a step of ``steps``."""
    return _FINAL ** (step / steps)


class _Plan(NamedTuple):
    """Random key, total number of steps, initial rates by name of the unknown, and the mean of the prior of
    coefficients."""

    key: Array
    steps: Float[Array, ""]
    rates: dict[str, float]
    center: Float[Array, "images components"]


class _Search(NamedTuple):
    """The state of a fit.

    Attributes:
        unknown: ``codes``, ``local`` and ``cameras``, see :data:`Unknown`.
        moments: of Adam.
        step: steps done.
        started, ended: loss of each image at the first and at the last step, over the same rays.
    """

    unknown: dict[str, Array]
    moments: PyTree
    step: Int[Array, ""]
    started: Float[Array, "images"]
    ended: Float[Array, "images"]


def _search_from(unknown: dict[str, np.ndarray]) -> _Search:
    on_device = {name: jnp.asarray(values, jnp.float32) for name, values in unknown.items()}
    nothing = jnp.zeros(len(on_device["codes"]))
    return _Search(on_device, ADAM.init(on_device), jnp.int32(0), nothing, nothing)


@quickly_compiled(static_argnums=(0, 1))
def _advance(
    config: FieldConfig,
    recipe: Recipe,
    network: Network,
    space: Space,
    pixels: PixelTable,
    plan: _Plan,
    search: _Search,
    until: Int[Array, ""],
) -> _Search:
    """Steps of Adam on all unknowns, until ``until`` steps are done."""

    def loss(unknown: dict[str, Array], number: Int[Array, ""]) -> tuple[Array, Array]:
        codes, local, corrections = unknown["codes"], unknown["local"], unknown["cameras"]
        each = losses(config, recipe, network, space, pixels, codes, local, corrections, plan.key, number)
        each = each + code_prior(codes - plan.center, local)
        return jnp.sum(each), each

    def step(_: Array, search: _Search) -> _Search:
        # The last step repeats the rays of the first, so that their losses are comparable.
        number = jnp.where(search.step == plan.steps - 1, 0, search.step)
        gradient, each = jax.grad(loss, has_aux=True)(search.unknown, number)
        moves, moments = ADAM.update(gradient, search.moments)
        decay = rate_decay(search.step, plan.steps)
        unknown = {
            name: search.unknown[name] - plan.rates[name] * decay * move for name, move in moves.items()
        }
        unknown["codes"] = within_reach(space, unknown["codes"])
        started = jnp.where(search.step == 0, each, search.started)
        return _Search(unknown, moments, search.step + 1, started, each)

    return jax.lax.fori_loop(search.step, until, step, search)
