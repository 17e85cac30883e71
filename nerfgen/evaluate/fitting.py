"""The table *fit*: how well codes show photographs that the model has not seen."""

from __future__ import annotations

import numpy as np

from nerfgen.errors import InputError
from nerfgen.evaluate.likeness import likeness
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.windows import windows_of
from nerfgen.generate import Views, render_views
from nerfgen.geometry import turned_views, window_intrinsics, yaw_pitch_roll
from nerfgen.parallel import Progress, silent
from nerfgen.picture import shade_depth
from nerfgen.report.table import Pictures, Table, merged

# Seen so far from the side, degrees, a face of cardboard shows that it is one.
_TURN = 35.0


def fit_table(subject: Subject, progress: Progress = silent) -> Table:
    """New photographs beside what their fitted codes show from their own cameras (table 2 of the original): at the size
    that the model was trained at, and at twice that. All pixels that lie on the photograph are compared."""
    try:
        unseen = subject.unseen(progress)
    except InputError as error:
        return Table({}, missing=[subject.told(error)])
    model, framed = subject.model, unseen.framed
    parts = [Table({}, notes=[*unseen.notes, f"codes fitted in {subject.settings.fit_steps} steps"])]
    seen = {}
    for times, scale in ((1, ""), (2, "_2x")):
        size = times * model.size
        photographs, valid = windows_of(unseen.files, framed.window, size)
        views = render_views(
            model,
            unseen.latents,
            window_intrinsics(framed.intrinsics, framed.window, size),
            framed.cam_to_world,
            size,
        )
        parts.append(likeness(subject, framed.images, photographs, views.rgb, valid, scale=scale))
        seen[times] = photographs, views
    parts.append(Table({}, pictures={"new photographs": _grid(subject, *seen[1])}))
    return merged(parts)


def _grid(subject: Subject, photographs: np.ndarray, views: Views) -> Pictures:
    """Photograph, reconstruction, its depth, and the object turned to either side."""
    unseen, model = subject.unseen(), subject.model
    count = min(subject.settings.shown, len(photographs))
    pitch = yaw_pitch_roll(unseen.framed.cam_to_world[:count])[:, 1]
    turned = [
        render_views(
            model,
            unseen.latents[:count],
            *turned_views(np.full(count, yaw), pitch, model.distance, model.size),
            model.size,
        ).rgb
        for yaw in (-_TURN, _TURN)
    ]
    depth = [shade_depth(view) for view in views.depth[:count]]
    columns = [
        photographs[:count],
        views.rgb[:count],
        np.array(depth).reshape(photographs[:count].shape),
        *turned,
    ]
    return Pictures(
        unseen.framed.images[:count],
        ["photograph", "reconstruction", "depth", f"yaw {-_TURN:g}", f"yaw {_TURN:g}"],
        np.stack(columns, axis=1),
    )
