"""New objects as a whole beside the training objects as a whole: coverage, and scores by the Inception network."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.evaluate.portrait import portraits, usual_angles
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.truth import over_white
from nerfgen.evaluate.windows import training_windows
from nerfgen.field import Model
from nerfgen.generate import Objects, render_views, table_objects
from nerfgen.metric import Coverage, Estimate, FrechetDistance, InceptionScore, KernelDistance
from nerfgen.parallel import Progress, silent
from nerfgen.report.table import Table

# Thumbnails tell objects apart by shape and colour, not by details that none of a few hundred others shares.
_THUMBNAIL = 16
_THUMBNAIL_ANTIALIAS = 2
_NEAREST = 5


def coverage_of(subject: Subject, drawn: Objects, progress: Progress = silent) -> Table:
    """Share of training objects that have a sample among their nearest objects, by thumbnails over white.

    As many training objects as samples are compared, chosen by the seed.
    """
    model, settings = subject.model, subject.settings
    rows = choose(model.images, len(drawn), settings.seed)
    if len(rows) <= _NEAREST:
        return Table(
            values={}, missing=[f"coverage: more than {_NEAREST} samples and training objects are needed"]
        )
    some = drawn.latents[: len(rows)]
    features = thumbnails(model, np.concatenate([model.latents[rows], some]), progress)
    measured = Coverage(features[: len(rows)], features[len(rows) :], _NEAREST)
    return Table(
        values={},
        pooled={"coverage": measured.estimate(settings.seed)},
        notes=[
            f"coverage: {len(rows)} training objects and as many samples, thumbnails of {_THUMBNAIL} pixels, "
            f"k = {_NEAREST}"
        ],
    )


def thumbnails(
    model: Model, latents: Float[np.ndarray, "codes latent"], progress: Progress = silent
) -> Float[np.ndarray, "codes values"]:
    """Small pictures over white from one camera, in [0, 1], each as a row."""
    views = portraits(
        model,
        latents,
        usual_angles(model, len(latents)),
        _THUMBNAIL,
        antialias=_THUMBNAIL_ANTIALIAS,
        progress=progress,
    )
    return over_white(views).reshape(len(latents), -1)


def inception_scores(subject: Subject, drawn: Objects, progress: Progress = silent) -> Table:
    """Samples, from the cameras of some training photographs and with background, beside these photographs' windows."""
    model, settings = subject.model, subject.settings
    inception = subject.inception
    if isinstance(inception, str):
        return Table(values={}, missing=[inception])
    rows = choose(model.images, len(drawn), settings.seed)
    photographs, valid = training_windows(model, subject.sources.data, rows)
    there = valid.any((1, 2))
    if not there.any():
        return Table(
            values={},
            missing=[
                f"FID, KID and IS: no training photograph is in {subject.sources.data.name}: give --data FOLDER"
            ],
        )
    cameras = table_objects(model, rows.tolist()).cameras
    assert cameras is not None
    views = render_views(
        model,
        drawn.latents[: len(rows)],
        cameras.matrices(model.size),
        cameras.cam_to_world,
        model.size,
        progress=progress,
    )
    real, _ = inception.features(photographs[there])
    fake, classes = inception.features(views.rgb)
    seed = settings.seed
    return Table(
        values={},
        pooled={
            "fid": FrechetDistance(real, fake).estimate(seed),
            "kid": _thousandfold(KernelDistance(real, fake).estimate(seed)),
            "inception_score": InceptionScore(classes).estimate(seed),
        },
        notes=[
            f"fid, kid: {len(views.rgb)} samples and {there.sum()} photographs ({(~there).sum()} are not as they were "
            "trained on, or not there); comparable with those of as many only"
        ],
    )


def _thousandfold(figure: Estimate) -> Estimate:
    """Kernel distances are told times 1000."""
    return Estimate(1000 * figure.mean, 1000 * figure.low, 1000 * figure.high, figure.n)
