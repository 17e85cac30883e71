"""Joint fitting: the latent codes of several images of one object, which share what the images have in common.

The coefficients of image i are s + w o_i, with coefficients s of the object, a deviation o_i of the image, and a spread
w; the local features alike. All are fitted together, so that every image tells of the object from its side.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.data import FramedImages, PixelTable, framed_pixels
from nerfgen.errors import InputError
from nerfgen.field import FieldConfig
from nerfgen.inversion.latent_fitting import STEPS, FitTask, Fitted, rate_decay
from nerfgen.inversion.objective import Space, code_prior, losses, within_reach
from nerfgen.inversion.reconstruction import ADAM, BatchOf, Network, optimise_batch, reconstruction_psnr
from nerfgen.inversion.settings import PersonalSettings, Start
from nerfgen.model import Model, Recipe
from nerfgen.optimize import quickly_compiled
from nerfgen.parallel import Progress, silent


class JointFit(NamedTuple):
    """One object and its images.

    Attributes:
        latent: code of the object.
        fitted: codes and cameras of the images; the object's code where the fit failed.
    """

    latent: Float[np.ndarray, "latent"]
    fitted: Fitted


def fit_one_object(
    model: Model,
    framed: FramedImages,
    *,
    steps: int = STEPS,
    start: Start = "guess",
    refine_cameras: bool | None = None,
    spread: float = PersonalSettings.spread,
    seed: int = 0,
    progress: Progress = silent,
) -> JointFit:
    """Fit one object's code to all of its images, and a code near it to each.

    The images are first fitted by themselves (:func:`nerfgen.inversion.fit_latents`); those where that fails are left
    out. Then as many steps fit all of them together, from the mean of their codes. Losses and priors are the same, the
    prior of an object counts once, and that of the deviations of its images is as wide as ``spread``. Codes leave the
    entries of a model with vector-quantised codes.

    Args:
        framed: images with masks and cameras, framed at the model's size.
        spread: standard deviation of an image's code about the object's, in standard deviations of the table; 0 for
            one code for all.
        steps, start, refine_cameras, seed: as of :func:`nerfgen.inversion.fit_latents`.
        progress: receives the steps of both.

    Raises:
        InputError: ``steps``, ``start`` or ``spread`` is out of range, or no image could be fitted.
    """
    if not 0 <= spread <= 1:
        raise InputError(f"`spread` is from 0 to 1, not {spread:g}")

    def first_half(done: int, total: int, note: str = "") -> None:
        progress(done, 2 * total, note)

    def second_half(done: int, total: int, note: str = "") -> None:
        progress(total + done, 2 * total, note)

    task = FitTask(model, framed, refine_cameras, steps, seed)
    alone, converged, iterations = task.fit(start, first_half)
    chosen = np.flatnonzero(converged)
    if not len(chosen):
        raise InputError("none of the images could be fitted; try other images of the object")
    shared = {name: alone[name][chosen].mean(axis=0, keepdims=True) for name in ("codes", "local")}
    unknown = {
        **shared,
        "own_codes": np.zeros_like(alone["codes"][chosen]),
        "own_local": np.zeros_like(alone["local"][chosen]),
        "cameras": alone["cameras"][chosen],
    }
    rates = task.rates()
    rates |= {f"own_{name}": rates[name] for name in shared}
    on_device = {name: jnp.asarray(values, jnp.float32) for name, values in unknown.items()}
    search = _Search(on_device, ADAM.init(on_device), jnp.int32(0))
    plan = _Plan(task.key, jnp.float32(steps), jnp.float32(spread), rates)
    pixels = framed_pixels(framed.subset(chosen))
    advance = partial(_advance, model.config, model.recipe, task.network, task.space, pixels, plan)
    part = BatchOf(0, 1, f"{len(chosen)} images together")
    search = optimise_batch(advance, search, steps, part, second_half)
    found = {name: np.asarray(values, np.float64) for name, values in search.unknown.items()}
    if not all(np.isfinite(values).all() for values in found.values()):
        raise InputError("the joint fit of the images diverged; try other images of the object")
    everyone = {name: np.tile(found[name], (len(framed.images), 1)) for name in shared}
    everyone["cameras"] = task.mean()["cameras"]
    for name in shared:
        everyone[name][chosen] += spread * found[f"own_{name}"]
    everyone["cameras"][chosen] = found["cameras"]
    latents, poses = task.solution(everyone, np.arange(len(framed.images)))
    psnr = reconstruction_psnr(model, framed, latents, poses)
    one = {"codes": found["codes"], "local": found["local"], "cameras": np.zeros((1, 6))}
    latent = task.solution(one, np.zeros(1, int))[0][0]
    return JointFit(latent, Fitted(latents, poses, psnr, iterations + steps * converged, converged))


class _Plan(NamedTuple):
    """Random key, total number of steps, spread, and initial rates by name of the unknown."""

    key: Array
    steps: Float[Array, ""]
    spread: Float[Array, ""]
    rates: dict[str, float]


class _Search(NamedTuple):
    """The state of a joint fit.

    Attributes:
        unknown: of the object, ``codes`` and ``local``; of its images ``own_codes``, ``own_local`` and ``cameras``.
        moments: of Adam.
        step: steps done.
    """

    unknown: dict[str, Array]
    moments: PyTree
    step: Int[Array, ""]


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

    def loss(unknown: dict[str, Array], number: Int[Array, ""]) -> Array:
        shared, own = ((unknown[f"{whose}codes"], unknown[f"{whose}local"]) for whose in ("", "own_"))
        codes, local = (whole + plan.spread * part for whole, part in zip(shared, own, strict=True))
        given = codes, local, unknown["cameras"]
        each = losses(config, recipe, network, space, pixels, *given, plan.key, number)
        return jnp.sum(each) + jnp.sum(code_prior(*shared)) + jnp.sum(code_prior(*own))

    def step(_: Array, search: _Search) -> _Search:
        gradient = jax.grad(loss)(search.unknown, search.step)
        moves, moments = ADAM.update(gradient, search.moments)
        decay = rate_decay(search.step, plan.steps)
        unknown = {
            name: search.unknown[name] - plan.rates[name] * decay * move for name, move in moves.items()
        }
        unknown["codes"] = within_reach(space, unknown["codes"])
        return _Search(unknown, moments, search.step + 1)

    return jax.lax.fori_loop(search.step, until, step, search)
