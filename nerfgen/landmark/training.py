"""Training a landmark estimator's two networks from annotated images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree
from PIL import Image

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import InputImage, UnreadableImageError, digest_images, find_images
from nerfgen.landmark import similarity
from nerfgen.landmark.augmentation import (
    Augmenter,
    Batch,
    Counts,
    Windows,
    draw_textures,
    recolor,
    window_counts,
)
from nerfgen.landmark.estimator_file import TrainedEstimator, save_estimator
from nerfgen.landmark.held_out import HeldOutErrors, error_summary, measure_held_out
from nerfgen.landmark.network import Networks, expected_points
from nerfgen.landmark.settings import EstimatorTraining
from nerfgen.landmark.training_images import (
    AnnotatedFolder,
    AnnotatedImages,
    draw_held_out,
    gather_images,
    load_examples,
)
from nerfgen.landmark.union import LandmarkUnion
from nerfgen.objectclass import ObjectClass
from nerfgen.optimize import Checkpoint, CheckpointSeries, Clock, Limits, load_checkpoint, run_loop
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.stopping import stop_signals

_RATE = 2e-3
_WARM_UP = 0.03  # fraction of the run in which the rate rises
_SPREAD = 0.9  # standard deviation of a heatmap's target, cells
_HUBER = 0.02  # fraction of the window's size from which errors count linearly
_POINTS = 10.0  # weight of the points against the classes


class State(NamedTuple):
    """What a training changes.

    Attributes:
        parameters: of the networks.
        moments: of the optimiser.
        terms: losses of the last step.
    """

    parameters: dict[str, PyTree]
    moments: optax.OptState
    terms: Float[Array, "terms"]


def initial_state(num_points: int, num_classes: int, seed: int) -> State:
    """The state before the first step."""
    parameters = Networks(num_points, num_classes).initial(seed)
    return State(parameters, _optimizer().init(parameters), jnp.zeros(4))


def make_step(
    num_points: int, num_classes: int, seed: int, batch: int
) -> Callable[[State, Batch, Any, Any], State]:
    """The jitted step: (state, batch, number of the step, fraction of the run that is done) to the next state.

    Its terms are the proposal network's losses of classes and points, then those of the landmark network. Of more
    windows without an object than :func:`nerfgen.landmark.augmentation.window_counts` has for ``batch``, those with the
    largest losses count (online hard example mining; Shrivastava et al. 2016).
    """
    networks = Networks(num_points, num_classes)
    optimiser = _optimizer()
    root = jax.random.key(seed + 1)
    proposed, located = window_counts(batch)

    def losses(parameters: dict[str, PyTree], batch: Batch, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key)
        terms = jnp.stack(
            [
                *_losses(
                    networks.propose(parameters, recolor(keys[0], batch.proposal.pixels)),
                    batch.proposal,
                    proposed,
                ),
                *_losses(
                    networks.locate(parameters, recolor(keys[1], batch.landmark.pixels)),
                    batch.landmark,
                    located,
                ),
            ]
        )
        return terms @ jnp.array([1.0, _POINTS, 1.0, _POINTS]), terms

    @jax.jit
    def step(state: State, batch: Batch, number: Any, fraction: Any) -> State:
        gradient, terms = jax.grad(losses, has_aux=True)(
            state.parameters, batch, jax.random.fold_in(root, number)
        )
        changes, moments = optimiser.update(gradient, state.moments, state.parameters)
        rate = _RATE * jnp.minimum(
            fraction / _WARM_UP + 0.01, 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(fraction, 1.0))
        )
        parameters = optax.apply_updates(
            state.parameters, jax.tree.map(lambda change: rate * change, changes)
        )
        return State(parameters, moments, terms)

    return step


def _optimizer() -> optax.GradientTransformation:
    """AdamW without its rate, which follows the fraction of the run that is done."""
    return optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.scale_by_adam(b2=0.99),
        optax.add_decayed_weights(0.02),
        optax.scale(-1.0),
    )


def _losses(outputs: tuple[Array, Array], windows: Windows, counts: Counts) -> tuple[Array, Array]:
    """Losses of the classes, and of the points."""
    logits, heatmaps = outputs
    each = optax.softmax_cross_entropy_with_integer_labels(logits, windows.labels)
    if len(each) > sum(counts):
        hardest, _ = jax.lax.top_k(each[counts.objects :], counts.others)
        each = jnp.concatenate([each[: counts.objects], hardest])
    classes = each.mean()
    points = _distance_loss(expected_points(heatmaps), windows.points)
    return classes, _heatmap_loss(heatmaps, windows.points) / _POINTS + points


def _distance_loss(
    points: Float[Array, "window landmark 2"], truth: Float[np.ndarray | Array, "window landmark 2"]
) -> Array:
    """Huber's loss of the distances, over landmarks that are annotated, in units of its scale."""
    known = jnp.isfinite(truth).all(-1)
    offset = jnp.where(known[..., None], points - jnp.where(known[..., None], truth, 0.0), 0.0)
    return (optax.huber_loss(offset / _HUBER).sum(-1)).sum() * _HUBER / jnp.maximum(known.sum(), 1)


def _heatmap_loss(
    heatmaps: Float[Array, "window grid grid landmark"], truth: Float[np.ndarray | Array, "window landmark 2"]
) -> Array:
    """Cross entropy to a Gaussian around each landmark that lies in the window."""
    known = (jnp.isfinite(truth) & (truth > 0) & (truth < 1)).all(-1)
    grid = heatmaps.shape[1]
    cell = jnp.where(known[..., None], truth, 0.5) * grid - 0.5
    cells = jnp.arange(grid)
    x, y = (
        jax.nn.softmax(-((cells[None, None] - cell[..., axis, None]) ** 2) / (2 * _SPREAD**2))
        for axis in (0, 1)
    )
    target = jnp.einsum("nmi,nmj->nijm", y, x).reshape(len(heatmaps), grid * grid, -1)
    flat = jax.nn.log_softmax(heatmaps.reshape(len(heatmaps), grid * grid, -1), axis=1)
    return -(known * (target * flat).sum(1)).sum() / jnp.maximum(known.sum(), 1)


_TEXTURES = 200
_NEGATIVE_SIDE = 256  # longer side to which images without an object are reduced, pixels
_REPORT_EVERY = 20


def train_estimator(
    sources: Sequence[AnnotatedFolder],
    output: Path,
    classes: Sequence[ObjectClass],
    settings: EstimatorTraining = EstimatorTraining(),
    *,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_minutes: float = 2.0,
    load_progress: Progress = silent,
    progress: Progress = silent,
    measure_progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], HeldOutErrors | None]:
    """Train a landmark estimator and write ``landmarker/1``.

    Ctrl-C and SIGTERM write a checkpoint before they take effect.

    Args:
        classes: classes that the estimator distinguishes; landmarks of one name are one for all of them.
        settings: runs that are limited by minutes are not bit-reproducible.
        resume: continue from the newest checkpoint, if there is one.
        warn: called with one line for each kind of image that was skipped.

    Returns:
        The summary: images, held_out, steps, seconds, kept and, if images were held out, ``found_percent``,
        ``error_percent`` and ``GROUP_error_percent`` of the class's groups; and the errors of the held-out images,
        None if the output was kept.

    Raises:
        InputError: the annotations do not fit the classes.
        OutputExistsError: the output exists and has other inputs or parameters.
    """
    limits = Limits(settings.step_limit, settings.minutes, checkpoint_minutes)
    gathered = gather_images(sources, classes, settings.split_by)
    negatives, seed = settings.negatives, settings.seed
    for note in gathered.notes:
        warn(note)
    inputs = list(gathered.inputs)
    others: list[str] = []
    if negatives:
        others = find_images(negatives)
        inputs.append(storage.folder_record(others, digest_images(negatives, others)))
    parameters = {
        "classes": [described.name for described in classes],
        "split_by": settings.split_by,
        "held_out": settings.held_out,
        "steps": settings.step_limit,
        "batch": settings.batch,
        "minutes": settings.minutes,
        "seed": seed,
        "negatives": bool(negatives),
        # Absent from files of trainings that take all.
        **({"hard_negatives": settings.hard_negatives} if settings.hard_negatives > 1 else {}),
    }
    stage = storage.Stage(output, "landmarker/1", classes[0], parameters=parameters, inputs=inputs)
    if stage.is_current(overwrite=overwrite):
        return {"kept": True, "output": str(output)}, None
    test = draw_held_out(gathered.groups, settings.held_out, seed)
    landmarks = LandmarkUnion.of(classes)
    learned, shapes = _examples(gathered, landmarks, ~test, load_progress, warn)
    empty = draw_textures(_TEXTURES, seed)
    if negatives:
        more = _negatives([negatives / name for name in others], load_progress)
        # As often as draw_textures, however few they are.
        empty += more * max(1, round(_TEXTURES / max(len(more), 1)))
    augmenter = Augmenter(
        learned,
        landmarks.mirrored,
        empty,
        mirror=all(described.mirror for described in classes),
        batch=settings.batch,
        hard_negatives=settings.hard_negatives,
        seed=seed,
    )
    checkpoints = CheckpointSeries(output)
    clock, state = _optimise(
        *(augmenter, stage, checkpoints),
        (len(landmarks.names), len(classes), seed),
        settings.batch,
        *(limits, resume, progress),
    )
    trained = TrainedEstimator(tuple(classes), shapes, jax.tree.map(np.asarray, state.parameters))
    errors = measure_held_out(trained, gathered, test, measure_progress)
    summary = {
        "images": len(gathered.paths),
        "held_out": int(test.sum()),
        "steps": clock.done,
        "seconds": clock.seconds,
        **error_summary(errors, classes),
    }
    save_estimator(
        stage,
        trained,
        held_out=errors.names,
        errors=errors.errors,
        scores=errors.scores,
        # Equal trainings give equal files, so these do not contain the time it took.
        summary={name: value for name, value in summary.items() if name not in ("seconds", "classes")},
    )
    checkpoints.finish()
    return {**summary, "kept": False, "output": str(output)}, errors


def _examples(
    gathered: AnnotatedImages,
    landmarks: LandmarkUnion,
    chosen: np.ndarray,
    progress: Progress,
    warn: Callable[[str], None],
) -> tuple[Any, np.ndarray]:
    """Examples of the chosen images and the mean shapes of their classes."""
    rows = np.flatnonzero(chosen)
    shapes = landmarks.mean_shapes(gathered.points[rows], gathered.labels[rows])
    frames = similarity.fit(shapes[gathered.labels[rows] - 1], gathered.points[rows])
    usable = similarity.is_usable(frames)
    rows = rows[usable]
    examples, unreadable = load_examples(
        [gathered.paths[row] for row in rows],
        gathered.points[rows],
        gathered.labels[rows],
        frames[usable],
        progress=progress,
    )
    if not usable.all():
        warn(f"{int((~usable).sum())} images whose landmarks coincide skipped")
    if unreadable:
        warn(f"{len(unreadable)} unreadable images skipped, such as {unreadable[0]}")
    if not examples.images:
        raise InputError("none of the annotated images can be read")
    return examples, shapes


def _negatives(paths: Sequence[Path], progress: Progress) -> list[Image.Image]:
    return [image for image in map_threads(_reduced, paths, progress=progress) if image is not None]


def _reduced(path: Path) -> Image.Image | None:
    try:
        return Image.fromarray(InputImage(path).pixels(_NEGATIVE_SIDE)[0])
    except UnreadableImageError:
        return None


def _optimise(
    augmenter: Augmenter,
    stage: storage.Stage,
    checkpoints: CheckpointSeries,
    sizes: tuple[int, int, int],
    batch: int,
    limits: Limits,
    resume: bool,
    progress: Progress,
) -> tuple[Clock, State]:
    """All steps, from the newest checkpoint if there is one to resume from."""
    state, clock = initial_state(*sizes), Clock(limits)
    newest = checkpoints.newest() if resume else None
    if newest:
        found = load_checkpoint(newest, stage, state)
        state, clock = found.state, Clock(limits, done=found.step, seconds=found.seconds)
    else:
        checkpoints.discard_previous()
    train_step = make_step(*sizes, batch)

    def report(state: State) -> State:
        classes, _, _, distance = (float(value) for value in state.terms)
        progress(clock.done, clock.expected_steps, f"classes {classes:.3f} distance {distance:.3f}")
        return state

    def save(state: State) -> None:
        checkpoints.save(Checkpoint(state, clock.done, clock.seconds), stage)

    # The following batches are drawn while the step runs.
    with stage.claimed(), ThreadPoolExecutor(1) as thread, stop_signals() as stop:
        upcoming = thread.submit(augmenter.batch, clock.done)

        def advance(state: State, step: int, until: int, fraction: float) -> State:
            nonlocal upcoming
            batch, upcoming = upcoming.result(), thread.submit(augmenter.batch, until)
            return train_step(state, batch, np.int32(step), np.float32(fraction))

        state = run_loop(
            advance,
            state,
            clock,
            report_every=_REPORT_EVERY,
            report=report,
            should_stop=lambda: bool(stop),
            save=save,
        )
    return clock, state
