"""The table *train*: how well the model shows the photographs that it was trained on."""

from __future__ import annotations

import numpy as np

from nerfgen.evaluate.likeness import likeness
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.windows import training_windows
from nerfgen.generate import render_views, table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.report.table import Pictures, Table, merged


def train_table(subject: Subject, progress: Progress = silent) -> Table:
    """Training photographs beside what their codes show from their own cameras (table 1 of the original).

    All pixels of the window that lie on the photograph are compared, the background's too.
    """
    model, settings = subject.model, subject.settings
    size = model.size
    chosen = choose(model.images, settings.images, settings.seed)
    photographs, valid = training_windows(model, subject.sources.data, chosen)
    there = np.flatnonzero(valid.any((1, 2)))
    gone = len(chosen) - len(there)
    if not len(there):
        return Table(
            {}, missing=[f"no training photograph is in {subject.sources.data.name}: give --data FOLDER"]
        )
    objects = table_objects(model, chosen[there].tolist())
    assert objects.cameras is not None
    views = render_views(
        model,
        objects.latents,
        objects.cameras.matrices(size),
        objects.cameras.cam_to_world,
        size,
        progress=progress,
    )
    shown = slice(settings.shown)
    notes = [f"{len(there)} of {len(model.images)} training photographs, chosen by seed {settings.seed}"]
    if gone:
        notes.append(
            f"{gone} of {len(chosen)} are not as they were trained on, or not there; they are left out"
        )
    pictures = Pictures(
        objects.names[shown],
        ["photograph", "reconstruction"],
        np.stack([photographs[there][shown], views.rgb[shown]], axis=1),
    )
    return merged(
        [
            Table({}, notes=notes, pictures={"reconstructions": pictures}),
            likeness(subject, objects.names, photographs[there], views.rgb, valid[there]),
        ]
    )
