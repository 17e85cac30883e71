"""The table *novel*: views of an object that the photograph, from which the model knows it, did not show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import InputError
from nerfgen.evaluate.given import read_pairs
from nerfgen.evaluate.likeness import likeness
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.truth import HeldOut, held_out_views, held_out_views_of, over_white, solid
from nerfgen.evaluate.unseen import Unseen, fit_photographs, instances_of, unknown_images
from nerfgen.evaluate.windows import windows_of
from nerfgen.generate import eight_bits, render_views
from nerfgen.metric import intersection_over_union, psnr
from nerfgen.parallel import Progress, silent
from nerfgen.report.table import Measured, Pictures, Table, merged
from nerfgen.train import Framed

# Further views of an object that are looked at, where there are many.
_VIEWS = 4


@dataclass(frozen=True)
class Targets:
    """Views to be met, and the objects as the model knows them.

    Attributes:
        held_out: the views; ``row`` is the object of each.
        names: of the views.
        latents: a code for each object.
        files, windows: photograph of each object, and its window.
        notes: of what they are.
    """

    held_out: HeldOut
    names: list[str]
    latents: Float[np.ndarray, "objects latent"]
    files: list[Path]
    windows: Float[np.ndarray, "objects 3"]
    notes: list[str]


def novel_table(subject: Subject, progress: Progress = silent) -> Table:
    """Views of objects that were known from one photograph, beside the true ones (table 3 of the original), over the
    foreground alone: both before white, where the true mask is solid.

    The views are, by what is there: the second photographs of ``--pairs``; further photographs of the objects in
    ``--others``, by the ``instance`` of their cameras; views of these objects that the truth holds; or, without others,
    views that the truth of the training photographs holds, by the codes of the table.

    Raises:
        InputError: pairs that were given can't be used.
    """
    pairs = _listed_pairs(subject)
    try:
        targets = _pairs(subject, pairs, progress) if pairs else _targets(subject, progress)
    except InputError as error:
        return Table({}, missing=[subject.told(error)])
    model, held_out = subject.model, targets.held_out
    cameras = held_out.intrinsics, held_out.cam_to_world, model.size
    views = render_views(model, targets.latents[held_out.row], *cameras, progress=progress)
    mean = np.broadcast_to(model.latents.mean(0), (len(held_out.row), model.latents.shape[1]))
    average = over_white(render_views(model, mean, *cameras))
    pictures, foreground = over_white(views), solid(held_out)
    values = {
        "mean_code_psnr_db": [psnr(*triple) for triple in zip(average, held_out.rgb, foreground, strict=True)]
    }
    missing = []
    if (held_out.mask < 1).any():
        values["mask_iou"] = [
            intersection_over_union(own > 0.5, true > 0.5)
            for own, true in zip(views.opacity, held_out.mask, strict=True)
        ]
    else:
        missing.append("masks of the photographs: whole pictures are compared; `nerfgen segment` makes them")
    true, seen = eight_bits(held_out.rgb), eight_bits(pictures)
    return merged(
        [
            Table(
                {},
                notes=targets.notes,
                missing=missing,
                pictures={"new views": _grid(subject, targets, true, seen)},
            ),
            likeness(subject, targets.names, true, seen, foreground),
            Table({name: Measured(targets.names, np.array(own)) for name, own in values.items()}),
        ]
    )


def _targets(subject: Subject, progress: Progress) -> Targets:
    """What :func:`novel_table` compares with, where no pairs were given.

    Raises:
        InputError: there is nothing.
    """
    sources, model = subject.sources, subject.model
    if sources.others is None:
        truth = sources.data / "truth.h5"
        if not truth.is_file():
            raise InputError(
                "a second view of an object: give --others with a truth.h5 or with several photographs of an object, "
                "or --pairs"
            )
        held_out = held_out_views(model, truth)
        return Targets(
            held_out,
            _numbered(held_out, model.images),
            model.latents,
            [sources.data / name for name in model.images],
            model.window,
            [
                _told(
                    held_out,
                    "training objects, by the codes of the table; with --others they would be new ones",
                )
            ],
        )
    fresh, _ = unknown_images(model, sources.others)
    instances = instances_of(sources.others, fresh)
    if len(set(instances)) < len(instances):
        return _instances(subject, fresh, instances, progress)
    unseen = subject.unseen(progress)
    truth = sources.others / "truth.h5"
    if not truth.is_file():
        raise InputError(
            f"a second view of the photographs of {sources.others.name}: give --pairs, or cameras that say which "
            "photographs show one object"
        )
    framed = unseen.framed
    held_out = held_out_views_of(framed.images, framed.intrinsics, framed.cam_to_world, model.size, truth)
    names, notes = (
        _numbered(held_out, framed.images),
        [_told(held_out, "new objects, each fitted to one photograph")],
    )
    return _of_unseen(unseen, held_out, names, notes)


def _listed_pairs(subject: Subject) -> list[tuple[str, str]]:
    """The pairs that were given; none if none were.

    Raises:
        InputError: the list can't be read, or names what is not there.
    """
    path, others = subject.sources.pairs, subject.sources.others
    if path is None:
        return []
    if others is None:
        raise InputError(f"{path.name}: its photographs are in --others; give that too")
    pairs = read_pairs(path)
    for name in (name for pair in pairs for name in pair):
        if not (others / name).is_file():
            raise InputError(f"{path.name}: {name} is not in {others.name}")
    return pairs[: subject.settings.images]


def _pairs(subject: Subject, pairs: list[tuple[str, str]], progress: Progress) -> Targets:
    """Targets of a list of pairs: the source is fitted, the target rendered from its own camera."""
    sources, settings = subject.sources, subject.settings
    assert sources.pairs is not None
    path = sources.pairs
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    found = fit_photographs(subject.model, sources, names, settings, subject.workers, progress)
    place = {name: number for number, name in enumerate(found.framed.images)}
    usable = [(place[first], place[second]) for first, second in pairs if first in place and second in place]
    if not usable:
        raise InputError(f"{path.name}: of no pair can both photographs be used")
    notes = [
        f"{len(usable)} pairs of {path.name}: the first photograph is fitted, the second compared",
        *found.notes,
    ]
    if len(usable) < len(pairs):
        notes.append(f"{len(pairs) - len(usable)} pairs lack a photograph that can be used")
    rows, targets = np.array(usable).T
    return _of_photographs(found, rows, targets, notes)


def _instances(subject: Subject, names: list[str], instances: list[str], progress: Progress) -> Targets:
    """Targets where several photographs show one object: its first is fitted, some of the others compared."""
    sources, settings = subject.sources, subject.settings
    groups: dict[str, list[str]] = {}
    for name, instance in zip(names, instances, strict=True):
        groups.setdefault(instance, []).append(name)
    several = [instance for instance, own in groups.items() if len(own) > 1]
    chosen = choose(several, max(1, settings.images // (1 + _VIEWS)), settings.seed)
    looked_at = [_some(groups[several[place]]) for place in chosen]
    found = fit_photographs(
        subject.model,
        sources,
        [name for own in looked_at for name in own],
        settings,
        subject.workers,
        progress,
    )
    place = {name: number for number, name in enumerate(found.framed.images)}
    usable = [[place[name] for name in own if name in place] for own in looked_at]
    rows = [own[0] for own in usable for _ in own[1:]]
    if not rows:
        raise InputError("of no object of the others can two photographs be used")
    notes = [
        f"{len(rows)} further photographs of {len(set(rows))} new objects, each fitted to one photograph",
        *found.notes,
    ]
    return _of_photographs(
        found, np.array(rows), np.array([target for own in usable for target in own[1:]]), notes
    )


def _some(names: list[str]) -> list[str]:
    """The first photograph of an object, and some others that are spread over all."""
    further = np.linspace(1, len(names) - 1, min(_VIEWS, len(names) - 1)).astype(int)
    return [names[0], *(names[place] for place in further)]


def _of_photographs(unseen: Unseen, rows: np.ndarray, targets: np.ndarray, notes: list[str]) -> Targets:
    """Targets that are photographs of the fitted objects ``rows``."""
    framed: Framed = unseen.framed.some(targets)
    mask = ((framed.mask > 127) & framed.valid).astype(np.float64)
    held_out = HeldOut(
        row=rows,
        rgb=framed.rgb / 255 * mask[..., None] + 1 - mask[..., None],
        mask=mask,
        depth=np.zeros_like(mask),
        intrinsics=framed.raster_intrinsics,
        cam_to_world=framed.cam_to_world,
        scale=np.ones(len(rows)),
    )
    names = [f"{unseen.framed.images[row]} -> {name}" for row, name in zip(rows, framed.images, strict=True)]
    return _of_unseen(unseen, held_out, names, notes)


def _of_unseen(unseen: Unseen, held_out: HeldOut, names: list[str], notes: list[str]) -> Targets:
    return Targets(held_out, names, unseen.latents, unseen.files, unseen.framed.window, notes)


def _numbered(held_out: HeldOut, images: list[str]) -> list[str]:
    """Names of views: the object's photograph, and which of its views."""
    count: dict[int, int] = {}
    names = []
    for row in held_out.row.tolist():
        count[row] = count.get(row, 0) + 1
        names.append(f"{images[row]}, view {count[row]}")
    return names


def _told(held_out: HeldOut, what: str) -> str:
    return f"{len(held_out.row)} views of {len(np.unique(held_out.row))} {what}"


def _grid(
    subject: Subject,
    targets: Targets,
    true: UInt8[np.ndarray, "views size size 3"],
    seen: UInt8[np.ndarray, "views size size 3"],
) -> Pictures:
    """The photograph that the object is known from, a view of it, and what the model makes of that view."""
    _, first = np.unique(targets.held_out.row, return_index=True)
    shown = first[np.linspace(0, len(first) - 1, min(subject.settings.shown, len(first))).astype(int)]
    own = targets.held_out.row[shown]
    photographs, _ = windows_of([targets.files[row] for row in own], targets.windows[own], subject.model.size)
    return Pictures(
        [targets.names[view] for view in shown],
        ["known from", "true view", "model"],
        np.stack([photographs, true[shown], seen[shown]], axis=1),
    )
