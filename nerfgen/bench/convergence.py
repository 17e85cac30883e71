"""How long the fast recipe trains for a quality, and where the published one stands then."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.bench.timing import Say
from nerfgen.data import PixelCache, open_pixel_cache
from nerfgen.evaluate.held_out_views import held_out_views, score_views
from nerfgen.model import PRESETS, Model, Recipe
from nerfgen.objectclass import ObjectClass
from nerfgen.optimize import Clock, Limits, run_loop
from nerfgen.parallel import Progress, silent
from nerfgen.render import render_views
from nerfgen.synth import SynthSettings, synthesize
from nerfgen.train import Machine, set_up
from nerfgen.train.result import model_preview
from nerfgen.train.state import TrainState

_SEED = 0
# Seconds of training before the first look at a model, and how much longer until each that follows.
_FIRST_LOOK, _GROWTH = 5.0, 1.25
_FAST = PRESETS["fast"]
# The published networks, with a batch that two cores compute in a second.
_PAPER = replace(PRESETS["paper"], images_per_batch=32)


def measure_convergence(
    kind: str,
    data: Path | None,
    *,
    targets: Sequence[float],
    minutes: float,
    images: int,
    size: int,
    views: int,
    say: Say,
    progress: Progress = silent,
) -> dict[str, object]:
    """Train `fast` and `paper` for the same time with true cameras and masks, judged by held-out views.

    The clock stands still while a model is judged. Learning rates decay over the whole time, as in
    ``nerfgen train --minutes``.

    Args:
        kind: ``heads`` or ``cars``.
        data: folder of `nerfgen synth`, made if it holds no truth; None for a temporary one.
        targets: PSNR over white of novel views, dB.
        images: objects, where they are made.
        size: of the framed images, pixels, for both recipes.
        views: how many of the held-out views judge.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = data or Path(scratch) / kind
        truth = data / "truth.h5"
        if not truth.exists():
            synthesize(kind, data, SynthSettings(num_images=images, size=size, seed=_SEED), progress=progress)
        with storage.reading(truth, "truth/1") as file:
            described = storage.class_of(file)
        with open_pixel_cache(
            data, truth, truth, size, object_class=described, inputs=[], path=Path(scratch) / "pixels.h5"
        ) as cache:
            images = len(cache.images)
            curve = _curve(_FAST, cache, described, minutes, truth, views, say)
            paper = _curve(_PAPER, cache, described, minutes, truth, views, say, only_the_end=True)
    return {
        "kind": kind,
        "images": images,
        "minutes": minutes,
        "seconds_to_psnr": {f"{target:g}": _first(curve, target) for target in targets},
        "fast_psnr_db": curve[-1][1],
        "fast_curve": curve,
        "paper_psnr_db": paper[-1][1],
    }


def _curve(
    recipe: Recipe,
    cache: PixelCache,
    described: ObjectClass,
    minutes: float,
    truth: Path,
    views: int,
    say: Say,
    *,
    only_the_end: bool = False,
) -> list[tuple[float, float]]:
    """Seconds of training and the quality (dB) that they gave, of a run that is limited to `minutes`."""
    recipe = replace(recipe, size=cache.size, camera_learning_rate=0.0)
    machine = Machine(devices=1)
    setup = set_up(recipe, described, cache, _SEED, machine, machine.mesh())
    curve: list[tuple[float, float]] = []
    next_judged = math.inf if only_the_end else _FIRST_LOOK
    say(f"compiling `{recipe.field}`")
    with setup.batches("auto") as source:
        state = setup.initial_state()
        advance = setup.compile_step(source, state, 0)
        clock = Clock(Limits(steps=None, minutes=minutes))

        def judge(state: TrainState) -> None:
            with clock.paused():
                quality = _quality(model_preview(setup, state, clock.fraction), truth, views)
            curve.append((round(clock.seconds, 2), quality))
            say(
                f"{recipe.field}: {quality:.2f} dB after {clock.seconds:.1f} s of training, {clock.done} steps"
            )

        def report(state: TrainState) -> TrainState:
            nonlocal next_judged
            if clock.fraction < 1.0 and clock.seconds >= next_judged:
                judge(state)
                next_judged *= _GROWTH
            return state

        judge(run_loop(advance, state, clock, report_every=setup.report_every, report=report))
    return curve


def _quality(model: Model, truth: Path, views: int) -> float:
    """PSNR over white of some held-out views, dB."""
    every = held_out_views(model, truth)
    count = len(every.row)
    chosen = np.linspace(0, count - 1, min(views, count)).round().astype(int)
    some = replace(every, **{field.name: getattr(every, field.name)[chosen] for field in fields(every)})
    # For an image, twice as many samples as in training pay off; the published ones are enough as they are.
    samples = min(2 * model.recipe.samples, PRESETS["paper"].samples)
    cameras = (some.intrinsics, some.cam_to_world, model.size)
    seen = render_views(model, model.latents[some.row], *cameras, samples=samples)
    return round(score_views(seen, some)["psnr_db"], 3)


def _first(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Seconds at the first look that found the target reached."""
    return next((seconds for seconds, found in curve if found >= target), None)
