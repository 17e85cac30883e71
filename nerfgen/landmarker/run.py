"""Training an estimator, from annotations to its file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.landmarker import frame
from nerfgen.landmarker.augment import Augmenter
from nerfgen.landmarker.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from nerfgen.landmarker.example import load_examples
from nerfgen.landmarker.file import Landmarker, save_landmarker
from nerfgen.landmarker.gather import Gathered, Source, gather, held_out
from nerfgen.landmarker.judge import Judged, error_summary, judge
from nerfgen.landmarker.step import State, initial_state, make_step
from nerfgen.landmarker.texture import textures
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.photo import Photograph, UnreadableImageError, digest_images, find_images
from nerfgen.stopping import stop_signals

STEPS = 3000
BATCH = 24
_TEXTURES = 200
_NEGATIVE_SIDE = 256  # pixels to which pictures without an object are reduced
_LOOK_EVERY = 20


def train_landmarker(
    sources: Sequence[Source],
    output: Path,
    classes: Sequence[ObjectClass],
    *,
    negatives: Path | None = None,
    split_by: int = 0,
    held_out_share: float = 0.2,
    steps: int = STEPS,
    batch: int = BATCH,
    minutes: float = 0.0,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 2.0,
    load_progress: Progress = silent,
    progress: Progress = silent,
    judge_progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], Judged | None]:
    """Train a landmark estimator and write ``landmarker/1``.

    Ctrl-C and SIGTERM write a checkpoint before they act.

    Args:
        classes: that the estimator tells apart; all of the same landmarks.
        negatives: folder of images that show none of them.
        split_by: first characters of a file's name that images of one group share; groups are held out whole.
        held_out_share: share of the images that is not trained on and judges the estimator.
        steps: 0: no limit, with ``minutes``.
        batch: objects that the measurer sees in a step.
        minutes: stop after this time; 0: after ``steps``. Runs limited by time are not reproducible to the bit.
        resume: go on from the checkpoint, if there is one.
        tell: told, in one line each, what was left out.

    Returns:
        The summary: images, held_out, steps, seconds, kept and, if images were held out, ``found_percent``,
        ``error_percent`` and ``GROUP_error_percent`` of the class's groups; and what was judged.

    Raises:
        InputError: the annotations do not fit.
        OutputExistsError: the output exists and came from others.
    """
    if not steps and not minutes:
        raise InputError("a training without limit: give --steps or --minutes")
    gathered = gather(sources, classes, split_by)
    for note in gathered.notes:
        tell(note)
    inputs = list(gathered.inputs)
    others: list[str] = []
    if negatives:
        others = find_images(negatives)
        inputs.append(artifact.folder_record(others, digest_images(negatives, others)))
    parameters = {
        "classes": [described.name for described in classes],
        "split_by": split_by,
        "held_out": held_out_share,
        "steps": steps,
        "batch": batch,
        "minutes": minutes,
        "seed": seed,
        "negatives": bool(negatives),
    }
    about: artifact.About = {"object_class": classes[0], "parameters": parameters, "inputs": inputs}
    if artifact.is_current(output, "landmarker/1", **about, overwrite=overwrite):
        return {"kept": True, "output": str(output)}, None
    test = held_out(gathered.groups, held_out_share, seed)
    learned, shape = _examples(gathered, ~test, load_progress, tell)
    pictures = textures(_TEXTURES, seed)
    if negatives:
        more = _negatives([negatives / name for name in others], load_progress)
        # As often as textures, however few they are.
        pictures += more * max(1, round(_TEXTURES / max(len(more), 1)))
    augmenter = Augmenter(
        learned,
        classes[0].mirrored,
        pictures,
        mirror=classes[0].mirror,
        batch=batch,
        seed=seed,
    )
    state, done, seconds = _fit(
        augmenter,
        (len(shape), len(classes), seed),
        (steps, minutes, checkpoint_minutes),
        checkpoint_path(output),
        about,
        resume=resume,
        progress=progress,
    )
    landmarker = Landmarker(tuple(classes), shape, jax.tree.map(np.asarray, state.parameters))
    judged = judge(landmarker, gathered, test, judge_progress)
    summary = {
        "images": len(gathered.paths),
        "held_out": int(test.sum()),
        "steps": done,
        "seconds": seconds,
        **error_summary(judged, classes[0]),
    }
    save_landmarker(
        output,
        landmarker,
        held_out=judged.names,
        errors=judged.errors,
        scores=judged.scores,
        # Files of the same training are the same: how long it took is no part of them.
        summary={name: value for name, value in summary.items() if name != "seconds"},
        about=about,
    )
    checkpoint_path(output).unlink(missing_ok=True)
    return {**summary, "kept": False, "output": str(output)}, judged


def _examples(
    gathered: Gathered, chosen: np.ndarray, progress: Progress, tell: Callable[[str], None]
) -> tuple[Any, np.ndarray]:
    """Examples of the chosen images and their mean shape."""
    rows = np.flatnonzero(chosen)
    shape = frame.mean_shape(gathered.points[rows])
    sound = frame.usable(frame.fit_frames(shape, gathered.points[rows]))
    rows = rows[sound]
    examples, unreadable = load_examples(
        [gathered.paths[row] for row in rows],
        gathered.points[rows],
        gathered.labels[rows],
        shape,
        progress=progress,
    )
    if not sound.all():
        tell(f"{int((~sound).sum())} images whose points lie in one place left out")
    if unreadable:
        tell(f"{len(unreadable)} unreadable images left out, such as {unreadable[0]}")
    if not examples.pictures:
        raise InputError("none of the annotated images can be read")
    return examples, shape


def _negatives(paths: Sequence[Path], progress: Progress) -> list[Image.Image]:
    return [picture for picture in map_threads(_reduced, paths, progress=progress) if picture is not None]


def _reduced(path: Path) -> Image.Image | None:
    try:
        return Image.fromarray(Photograph(path).pixels(_NEGATIVE_SIDE)[0])
    except UnreadableImageError:
        return None


def _fit(
    augmenter: Augmenter,
    sizes: tuple[int, int, int],
    limits: tuple[int, float, float],
    checkpoint: Path,
    about: artifact.About,
    *,
    resume: bool,
    progress: Progress,
) -> tuple[State, int, float]:
    """All steps; the state, how many there were, and their seconds."""
    steps, minutes, checkpoint_minutes = limits
    state, done, before = initial_state(*sizes), 0, 0.0
    if resume and checkpoint.exists():
        artifact.is_current(checkpoint, "landmarker-checkpoint/1", **about)
        state, done, before = load_checkpoint(checkpoint, state)
    step = make_step(*sizes)
    began = saved = time.monotonic()
    terms: Any = None

    def share() -> float:
        by_time = (before + time.monotonic() - began) / (60 * minutes) if minutes else 0.0
        return max(done / steps if steps else 0.0, by_time)

    # The batches that follow are drawn while the step runs.
    with ThreadPoolExecutor(1) as drawing, stop_signals() as stop:
        following = drawing.submit(augmenter.batch, done)
        while share() < 1.0 and not stop:
            batch = following.result()
            following = drawing.submit(augmenter.batch, done + 1)
            state, terms = step(state, batch, np.int32(done), np.float32(share()))
            done += 1
            if done % _LOOK_EVERY == 0:
                classes, _, _, distance = (float(value) for value in terms)
                total = steps or round(done / max(share(), 1e-6))
                progress(done, max(total, done), f"classes {classes:.3f} distance {distance:.3f}")
            if time.monotonic() - saved > 60 * checkpoint_minutes and share() < 1.0 and not stop:
                saved = time.monotonic()
                save_checkpoint(checkpoint, state, done, before + saved - began, about)
        if stop:
            save_checkpoint(checkpoint, state, done, before + time.monotonic() - began, about)
    return state, done, before + time.monotonic() - began
