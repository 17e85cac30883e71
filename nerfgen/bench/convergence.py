"""How long the fast recipe trains for a quality, and where the published one stands then."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen import artifact
from nerfgen.bench.turns import Say
from nerfgen.evaluate.truth import held_out_views, judge_views
from nerfgen.field import Model
from nerfgen.generate import render_views
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, silent
from nerfgen.stopping import Stop
from nerfgen.synth import write_dataset
from nerfgen.train import PRESETS, Execution, PixelCache, pixel_cache
from nerfgen.train.run import Limits, Run

_SEED = 0
# Seconds of training before the first look at a model, and how much longer until each that follows.
_FIRST_LOOK, _GROWTH = 5.0, 1.25


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
) -> dict[str, Any]:
    """Train `fast` and `paper` for the same time with true cameras and masks, judged by held-out views.

    The clock stands still while a model is judged. Learning rates decay over the whole time, as in
    ``nerfgen train --minutes``.

    Args:
        kind: ``heads`` or ``cars``.
        data: folder of `nerfgen synth`, made if it holds no truth; None for a temporary one.
        targets: PSNR over white of novel views, dB.
        images: objects, where they are made.
        size: edge of the framed photographs, for both recipes.
        views: how many of the held-out views judge.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = data or Path(scratch) / kind
        truth = data / "truth.h5"
        if not truth.exists():
            write_dataset(kind, data, num_images=images, size=size, seed=_SEED, progress=progress)
        with artifact.reading(truth, "truth/1") as file:
            described = artifact.class_of(file)
        inputs = (Path(scratch) / "pixels.h5", data, truth, truth)
        cache = pixel_cache(*inputs, size, object_class=described, inputs=[])

        curve = _curve("fast", cache, described, minutes, truth, views, say)
        paper = _curve("paper", cache, described, minutes, truth, views, say, only_the_end=True)
    return {
        "kind": kind,
        "images": len(cache.images),
        "minutes": minutes,
        "seconds_to_psnr": {f"{target:g}": _first(curve, target) for target in targets},
        "fast_psnr_db": curve[-1][1],
        "fast_curve": curve,
        "paper_psnr_db": paper[-1][1],
    }


def _curve(
    recipe: str,
    cache: PixelCache,
    described: ObjectClass,
    minutes: float,
    truth: Path,
    views: int,
    say: Say,
    *,
    only_the_end: bool = False,
) -> list[tuple[float, float]]:
    """Seconds of training and the quality (dB) that they gave, of a run of so many minutes."""
    preset = replace(PRESETS[recipe], size=cache.size, camera_learning_rate=0.0)
    execution = Execution(devices=1)
    curve: list[tuple[float, float]] = []
    following = math.inf if only_the_end else _FIRST_LOOK
    say(f"compiling `{recipe}`")
    with Run(preset, described, cache, _SEED, execution, execution.mesh()) as run:
        run.begin()
        run.start(Limits(steps=0, minutes=minutes, checkpoint_minutes=math.inf))
        while run.progress < 1.0:
            run.advance(Stop())
            seconds, began = run.seconds, time.monotonic()
            if run.progress < 1.0 and seconds < following:
                continue
            curve.append((round(seconds, 2), _quality(run.model(), truth, views)))
            say(f"{recipe}: {curve[-1][1]:.2f} dB after {seconds:.1f} s of training, {run.done} steps")
            following *= _GROWTH
            run.began += time.monotonic() - began  # the clock stood still
    return curve


def _quality(model: Model, truth: Path, views: int) -> float:
    """PSNR over white of some held-out views, dB."""
    every = held_out_views(model, truth)
    count = len(every.row)
    chosen = np.linspace(0, count - 1, min(views, count)).round().astype(int)
    some = replace(every, **{field.name: getattr(every, field.name)[chosen] for field in fields(every)})
    # For a picture, twice as many samples as in training pay off; the published ones are enough as they are.
    samples = min(2 * int(model.preset["samples"]), PRESETS["paper"].samples)
    cameras = (some.intrinsics, some.cam_to_world, model.size)
    seen = render_views(model, model.latents[some.row], *cameras, samples=samples)
    return round(judge_views(seen, some)["psnr_db"], 3)


def _first(curve: Sequence[tuple[float, float]], target: float) -> float | None:
    """Seconds at the first look that found the target reached."""
    return next((seconds for seconds, found in curve if found >= target), None)
