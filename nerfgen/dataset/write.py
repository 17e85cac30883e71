"""A folder of pictures of objects that never existed, in shards."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerfgen import artifact
from nerfgen.dataset.describe import write_description
from nerfgen.dataset.pose import training_poses
from nerfgen.dataset.settings import Part, Settings
from nerfgen.dataset.shard import Scene, write_shard
from nerfgen.errors import OutputExistsError
from nerfgen.field import load_model, model_file
from nerfgen.generate import draw_identities, fitting_antialias, neighbours, principal_axes
from nerfgen.parallel import Progress, silent
from nerfgen.picture import FARTHEST

_SCHEMA = "identities/1"
_ELSEWHERE = "give another folder to --dataset"


def write_dataset(
    model: Path,
    out: Path,
    settings: Settings,
    *,
    part: Part = Part(),
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Render new identities into shards of ``out``; a shard is there whole or not at all.

    What view v of identity i shows depends only on the model, the settings and (seed, i, v): neither on the number of
    identities nor on the shards. Shards that are there already are kept, so that the same call goes on where another
    ended. Memory does not grow with the number of identities.

    Args:
        model: a model file, or the folder that holds model.h5.
        part: the shards to render.
        overwrite: first remove this part's shards, and all others that are not of this dataset.
        progress: told identities.

    Returns:
        ``identities``, ``views``, ``shards`` (of the part), ``rendered`` (identities; the others were kept),
        ``rejected`` (draws that ``min_distance`` ruled out), ``too_near`` (identities no farther from a training row
        than ``near_distance``), ``landmarks`` (whether the class has any), ``depth_fits`` (whether all depths can be
        said in 16 bits), ``output``.

    Raises:
        InputError: the model can't be used, or no draw is far enough from the training rows.
        OutputExistsError: ``out`` holds shards of other settings, or what no run wrote.
    """
    model = model_file(model)
    trained = load_model(model)
    size = settings.size or trained.size
    antialias = settings.antialias or fitting_antialias(trained, size)
    settings = replace(settings, size=size, antialias=antialias)
    scene = Scene(
        settings=settings,
        model=trained,
        described=trained.object_class,
        around=neighbours(principal_axes(trained.latents), trained.latents),
        training_poses=training_poses(trained),
    )
    about = artifact.About(
        object_class=trained.object_class,
        parameters=settings.parameters,
        inputs=[artifact.file_record(model)],
    )
    chosen = list(settings.shards)[part.number - 1 :: part.of]
    kept = _existing(out, settings, about, replaced=set(chosen), overwrite=overwrite)
    waiting = {name: settings.shards[name] for name in chosen if name not in kept}
    write_description(out / "dataset.json", settings, about, scene.described, scene.around.near)
    total, rendered = sum(map(len, waiting.values())), itertools.count(1)
    for name, numbers in waiting.items():
        drawn = draw_identities(
            numbers,
            scene.around,
            components=settings.components,
            truncation=settings.truncation,
            seed=settings.seed,
            min_distance=settings.min_distance,
        )
        with artifact.atomic_folder(out / name) as folder:
            write_shard(
                folder,
                scene,
                numbers,
                drawn,
                _of_shard(about, numbers),
                lambda: progress(next(rendered), total),
            )
    return {
        "identities": sum(len(settings.shards[name]) for name in chosen),
        "views": settings.views,
        "shards": len(chosen),
        "rendered": total,
        "landmarks": bool(scene.described.landmark_names),
        "depth_fits": float(scene.training_poses[:, 3].max()) + scene.described.reach <= FARTHEST,
        "output": str(out),
        **_nearness([out / name / "identities.h5" for name in chosen], scene.around.near),
    }


def _of_shard(about: artifact.About, numbers: range) -> artifact.About:
    """A shard's account: which identities of the dataset it holds."""
    where = {"first_identity": numbers.start, "identities": len(numbers)}
    return artifact.About(
        object_class=about["object_class"],
        parameters={**about["parameters"], **where},
        inputs=about["inputs"],
    )


def _existing(
    out: Path, settings: Settings, about: artifact.About, *, replaced: set[str], overwrite: bool
) -> set[str]:
    """Names of the shards in ``out`` that can be kept.

    With ``overwrite`` those to be ``replaced`` are removed, and those that differ from what is wanted.

    Raises:
        OutputExistsError: a shard is of other settings, or not ours.
    """
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; {_ELSEWHERE}")
    remedy = "give --overwrite to replace it, or another folder to --dataset"
    kept = set()
    for folder in sorted(out.glob("shard-*")):
        file = folder / "identities.h5"
        if not file.is_file():
            raise OutputExistsError(f"{folder} was not written by nerfgen; {_ELSEWHERE}")
        try:
            if folder.name not in settings.shards:
                raise OutputExistsError(f"{folder} is beyond {settings.identities} identities; {remedy}")
            artifact.is_current(
                file, _SCHEMA, **_of_shard(about, settings.shards[folder.name]), remedy=remedy
            )
        except OutputExistsError:
            if not overwrite:
                raise
            artifact.remove_folder(folder)
            continue
        if overwrite and folder.name in replaced:
            artifact.remove_folder(folder)
        else:
            kept.add(folder.name)
    return kept


def _nearness(files: list[Path], near: float) -> dict[str, Any]:
    """How near the identities of finished shards are to training rows."""
    rejected = too_near = 0
    for path in files:
        with artifact.reading(path, _SCHEMA) as file:
            rejected += int((file["attempts"][:] - 1).sum())
            too_near += int((file["nearest_distance"][:] <= near).sum())
    return {"rejected": rejected, "too_near": too_near, "near_distance": near}
