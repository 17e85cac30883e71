"""The table *samples*: new objects of a model, whether they are objects of the class and whether they are new."""

from __future__ import annotations

import numpy as np

from nerfgen.evaluate.distribution import coverage_of, inception_scores
from nerfgen.evaluate.portrait import portraits, usual_angles
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.turned import landmarked
from nerfgen.generate import Objects, drawn_objects, neighbours, principal_axes, table_objects
from nerfgen.generate.sheet import framed_photograph
from nerfgen.parallel import Progress, silent
from nerfgen.report.table import Measured, Pictures, Table, merged

# Edge of the pictures that people look at, pixels.
_SHOWN_SIZE = 128
# Yaws of a row, as shares of the class's turntable, which need not go farther than to the side.
_SHOWN_TURNS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_SIDE = 90.0


def samples_table(subject: Subject, progress: Progress = silent) -> Table:
    """New objects: found by the class's landmarker, seen from where they were to be seen, unlike the training objects
    one by one and like them as a whole."""
    model, settings = subject.model, subject.settings
    drawn = drawn_objects(principal_axes(model.latents), settings.samples, settings.truncation, settings.seed)
    note = f"{len(drawn)} new objects, truncation {settings.truncation:g}"
    return merged(
        [
            Table(values={}, notes=[note], pictures={"new objects": _grid(subject, drawn)}),
            landmarked(subject, drawn, _noted(progress, "turned samples")),
            memorised(subject, drawn),
            coverage_of(subject, drawn, _noted(progress, "coverage")),
            inception_scores(subject, drawn, _noted(progress, "samples beside photographs")),
        ]
    )


def _noted(progress: Progress, what: str) -> Progress:
    """Progress of a part of the table, which has its own total."""

    def told(done: int, total: int, note: str = "") -> None:
        progress(done, total, what)

    return told


def memorised(subject: Subject, drawn: Objects) -> Table:
    """Distances of codes to the nearest training rows (:class:`nerfgen.generate.Neighbours`), and the samples that are
    nearest to one beside it."""
    model, data = subject.model, subject.sources.data
    around = neighbours(principal_axes(model.latents), model.latents)
    distance, row = around.nearest(drawn.latents)
    shown = np.argsort(distance, kind="stable")[: subject.settings.shown]
    rows = table_objects(model, row[shown].tolist())
    angles = usual_angles(model, len(shown))
    pictures = [
        portraits(model, drawn.latents[shown], angles, _SHOWN_SIZE).rgb,
        portraits(model, rows.latents, angles, _SHOWN_SIZE).rgb,
        np.stack([framed_photograph(model, number, data, _SHOWN_SIZE) for number in row[shown]]),
    ]
    return Table(
        values={
            "nearest_distance": Measured(drawn.names, distance),
            "memorised_fraction": Measured(drawn.names, (distance <= around.near).astype(float)),
        },
        notes=[f"a sample is memorised within {around.near:.3f} of a training row"],
        pictures={
            "nearest to training objects": Pictures(
                [
                    f"{drawn.names[place]}, {distance[place]:.2f} from {name}"
                    for place, name in zip(shown, rows.names, strict=True)
                ],
                ["sample", "nearest training object", "its photograph"],
                np.stack(pictures, axis=1),
            )
        },
    )


def _grid(subject: Subject, drawn: Objects) -> Pictures:
    """The first samples from several sides."""
    count = min(subject.settings.shown, len(drawn))
    yaws = np.array(_SHOWN_TURNS) * min(subject.model.object_class.turn, _SIDE)
    angles = np.tile(np.stack([yaws, np.zeros(len(yaws))], axis=1), (count, 1))
    latents = np.repeat(drawn.latents[:count], len(yaws), axis=0)
    views = portraits(subject.model, latents, angles, _SHOWN_SIZE)
    return Pictures(
        drawn.names[:count],
        [f"yaw {yaw:g}" for yaw in yaws],
        views.rgb.reshape(count, len(yaws), *views.rgb.shape[1:]),
    )
