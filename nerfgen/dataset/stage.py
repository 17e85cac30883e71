"""Datasets of synthetic identities: folders of rendered views in shards."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nerfgen import storage
from nerfgen.dataset.plan import Plan, training_poses, write_description
from nerfgen.dataset.settings import DatasetSettings
from nerfgen.dataset.shard import Scene, write_shard
from nerfgen.errors import OutputExistsError, WriteError
from nerfgen.image import MAX_DEPTH
from nerfgen.model import SampleSettings, draw_identities, load_model, model_file, neighbours
from nerfgen.parallel import Progress, map_ordered, silent
from nerfgen.render import RenderSettings

_SCHEMA = "identities/1"
_ELSEWHERE = "choose another folder"


def write_dataset(
    model: Path,
    out: Path,
    *,
    sampling: SampleSettings = SampleSettings(),
    rendering: RenderSettings = RenderSettings(),
    dataset: DatasetSettings = DatasetSettings(),
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> storage.Record:
    """Render new identities into shards of ``out``; each shard appears complete or not at all.

    View v of identity i depends only on the model, the settings and (seed, i, v), neither on the number of identities
    nor on the shards. Existing shards are kept, so that the same call continues an interrupted one. Memory does not
    depend on the number of identities.

    Args:
        model: a model file, or the folder that holds model.h5.
        dataset: content, and which of its shards to render.
        overwrite: first remove these shards, and all shards of other datasets.
        workers, scheduler: take workers of Dask, which write a shard each, see :class:`nerfgen.cluster.ClusterWorkers`.
        progress: counts identities, or shards with a scheduler.

    Returns:
        ``identities``, ``views``, ``shards`` (of these), ``rendered`` (identities; the others were kept),
        ``rejected`` (draws that ``min_distance`` excluded), ``too_near`` (identities within ``near_distance`` of a
        training row), ``landmarks`` (whether the class has any), ``depth_fits`` (whether 16 bits can hold all
        depths), ``output``.

    Raises:
        InputError: the model is unusable, or no draw is far enough from the training rows.
        OutputExistsError: ``out`` holds shards of other settings, or other files called shard-*.
    """
    model = model_file(model)
    scene = _scene(model, sampling, rendering, dataset)
    plan, trained = scene.plan, scene.model
    whole = storage.Stage(
        out / "dataset.json",
        "dataset",
        trained.object_class,
        parameters=plan.parameters(trained),
        inputs=[storage.file_record(model)],
    )
    chosen = list(plan.shards)[dataset.shard.number - 1 :: dataset.shard.of]
    kept = _existing(out, plan, whole, replaced=set(chosen), overwrite=overwrite)
    waiting = {name: plan.shards[name] for name in chosen if name not in kept}
    write_description(whole, plan, scene.described, scene.around.near)
    total, rendered = sum(map(len, waiting.values())), itertools.count(1)
    if scheduler:
        shards = map_ordered(
            _write_in_worker,
            list(waiting),
            workers=workers,
            initializer=_start,
            initializer_arguments=(model, whole, sampling, rendering, dataset),
            batch=1,
            scheduler=scheduler,
            progress=progress,
        )
        deque(shards, maxlen=0)
    else:
        for name in waiting:
            with storage.claim(out / name):
                _write(scene, whole, name, lambda: progress(next(rendered), total))
    return {
        "identities": sum(len(plan.shards[name]) for name in chosen),
        "views": dataset.views,
        "shards": len(chosen),
        "rendered": total,
        "landmarks": bool(scene.described.landmark_names),
        "depth_fits": float(scene.training_poses[:, 3].max()) + scene.described.reach <= MAX_DEPTH,
        "output": str(out),
        **_nearness([out / name / "identities.h5" for name in chosen], scene.around.near),
    }


def _scene(
    model: Path, sampling: SampleSettings, rendering: RenderSettings, dataset: DatasetSettings
) -> Scene:
    trained = load_model(model)
    return Scene(
        plan=Plan(sampling, rendering, dataset),
        model=trained,
        described=trained.object_class,
        around=neighbours(trained.principal, trained.latents),
        training_poses=training_poses(trained),
    )


def _write(scene: Scene, whole: storage.Stage, name: str, done: Callable[[], None]) -> None:
    """Render a shard; it appears complete or not at all."""
    numbers, sampling = scene.plan.shards[name], scene.plan.sampling
    drawn = draw_identities(
        numbers,
        scene.around,
        components=sampling.components or 0,
        truncation=sampling.truncation,
        seed=sampling.seed,
        min_distance=scene.plan.dataset.min_distance,
    )
    with storage.atomic_folder(whole.output.with_name(name)) as folder:
        write_shard(_of_shard(whole, folder, numbers), scene, numbers, drawn, done)


# Of a worker.
_own_scene: Scene
_whole: storage.Stage


def _start(model: Path, whole: storage.Stage, *settings: Any) -> None:
    global _own_scene, _whole
    _own_scene, _whole = _scene(model, *settings), whole


def _write_in_worker(name: str) -> None:
    folder = _whole.output.with_name(name)
    try:
        # A worker that was taken for lost may have written it, or write it meanwhile.
        if not folder.exists():
            _write(_own_scene, _whole, name, lambda: None)
    except WriteError:
        if not folder.exists():
            raise


def _of_shard(whole: storage.Stage, folder: Path, numbers: range) -> storage.Stage:
    """The stage of a shard, whose parameters include its range of identities."""
    where = {"first_identity": numbers.start, "identities": len(numbers)}
    return replace(
        whole, output=folder / "identities.h5", schema=_SCHEMA, parameters={**whole.parameters, **where}
    )


def _existing(
    out: Path, plan: Plan, whole: storage.Stage, *, replaced: set[str], overwrite: bool
) -> set[str]:
    """Names of the shards in ``out`` that are current.

    With ``overwrite``, the shards to be ``replaced`` and those of other settings are removed.

    Raises:
        OutputExistsError: a shard has other settings, or nerfgen did not write it.
    """
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; {_ELSEWHERE}")
    remedy = "give `overwrite` to replace it, or choose another folder"
    kept = set()
    for folder in sorted(out.glob("shard-*")):
        file = folder / "identities.h5"
        if not file.is_file():
            raise OutputExistsError(f"{folder} was not written by nerfgen; {_ELSEWHERE}")
        try:
            if folder.name not in plan.shards:
                raise OutputExistsError(f"{folder} is beyond {plan.sampling.count} identities; {remedy}")
            _of_shard(whole, folder, plan.shards[folder.name]).is_current(remedy=remedy)
        except OutputExistsError:
            if not overwrite:
                raise
            storage.remove_folder(folder)
            continue
        if overwrite and folder.name in replaced:
            storage.remove_folder(folder)
        else:
            storage.remove_void_claim(folder)
            kept.add(folder.name)
    return kept


def _nearness(files: list[Path], near: float) -> storage.Record:
    """Distances of the identities of finished shards to training rows."""
    rejected = too_near = 0
    for path in files:
        with storage.reading(path, _SCHEMA) as file:
            rejected += int((file["attempts"][:] - 1).sum())
            too_near += int((file["nearest_distance"][:] <= near).sum())
    return {"rejected": rejected, "too_near": too_near, "near_distance": near}
