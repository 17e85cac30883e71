"""``nerfgen sample``: new objects, walks between objects, and datasets of new objects."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, Reporter
from nerfgen.dataset import DatasetSettings
from nerfgen.model import SampleSettings, WalkSettings
from nerfgen.render import RenderSettings, ViewCameras, ViewFiles
from nerfgen.settings import settings_of

if TYPE_CHECKING:
    from nerfgen.model import Direction, Model, Objects

EPILOG = runtime.examples(
    "Examples",
    "nerfgen sample photos/model.h5 -n 8 --sheet people.png",
    "nerfgen sample photos/model.h5 -n 16 --truncation 1.0 --seed 7 --orbit 48 --video people.mp4",
    "nerfgen sample photos/model.h5 -n 16 --prior mixture -o mixture.h5 --sheet mixture.png",
    "nerfgen sample photos/model.h5 --between 3 17 photos/samples.h5:0 --frames 96 --video between.mp4",
    "nerfgen sample photos/model.h5 --direction 1 --range -3:3 --video first.mp4",
    "nerfgen sample photos/model.h5 3 --direction smile --range -2:2 --sheet smile.png -o smile.h5",
    "nerfgen sample photos/model.h5 -n 10000 --views 8 --dataset people",
)


def sample(
    model: runtime.ModelFile,
    codes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CODE",
            help="Objects to walk between or from: rows such as 3 or 0,5-9, files of latent codes such as fitted.h5, "
            "or some objects of a file, such as samples.h5:2.",
            show_default=False,
        ),
    ] = None,
    *,
    sampling: SampleSettings,
    walking: WalkSettings,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a folder of training data for other programs: each object from several sides, with mask, "
            "depth, cameras and landmarks. An interrupted call continues where it stopped.",
            show_default=False,
            rich_help_panel=DatasetSettings.title,
        ),
    ] = None,
    dataset_settings: DatasetSettings,
    cluster: runtime.Scheduler,
    workers: runtime.ClusterWorkers = None,
    cameras: ViewCameras,
    rendering: RenderSettings,
    output: runtime.OutputFile,
    files: ViewFiles,
    messages: Messages,
) -> None:
    """Draw new objects and render them; writes samples.h5 beside the model.

    With --between and --direction, the objects are the frames of a walk through the space of latent codes, seen from
    the front unless cameras are given. A video then shows them one after the other, and the output is walk.h5. With
    --dataset, a folder is written in place of a file.
    """
    _check_effects()
    reporter = messages.reporter()
    if dataset:
        scheduler = cluster.scheduler
        _write_dataset(
            model,
            dataset,
            reporter,
            unit="shards" if scheduler else "identities",
            sampling=sampling,
            rendering=rendering,
            dataset=dataset_settings,
            overwrite=output.overwrite,
            workers=workers,
            scheduler=scheduler,
        )
        return

    from nerfgen import render, storage
    from nerfgen.errors import InputError
    from nerfgen.model import find_direction, load_direction, load_model, model_file

    is_walk = walking.between or walking.direction is not None
    if is_walk and all(each is None for each in (cameras.yaw, cameras.orbit, cameras.position, cameras.path)):
        cameras = replace(cameras, yaw=(0.0,))
    path = model_file(model)
    trained = load_model(path)
    views_file = output.output or path.with_name("walk.h5" if is_walk else "samples.h5")
    chosen = cameras.of(trained.object_class, trained.distance)
    files.check(chosen.path)
    principal = trained.principal
    record = storage.file_record(path)
    ends = _Ends.find(trained, record["sha256"], codes or [])
    if os.path.realpath(views_file) in [os.path.realpath(file) for file in ends.files]:
        raise InputError(f"{views_file} holds a CODE of the walk; choose another `output`")
    named = None
    if walking.direction is not None and walking.axis is None:
        found = find_direction(walking.direction, path.parent)
        named = load_direction(found, record["sha256"])
        ends = replace(ends, files=[*ends.files, found])
    objects, parameters = _objects(trained, ends, sampling, walking, named)
    stage = storage.Stage(
        views_file,
        "views/1",
        trained.object_class,
        parameters={**parameters, **chosen.parameters, **rendering.parameters(trained)},
        inputs=[
            record,
            *chosen.inputs,
            *rendering.inputs,
            *(storage.file_record(file) for file in ends.files),
        ],
    )
    if stage.is_current(overwrite=output.overwrite):
        reporter.kept(views_file)
    else:
        with reporter.progress("rendering", "objects") as progress:
            render.render_to_file(
                trained,
                objects,
                stage,
                cameras=chosen.path.cameras,
                rendering=rendering,
                further={"deviation": principal.deviation},
                progress=progress,
            )
    files.write(
        views_file,
        trained,
        path.parent,
        chosen.path,
        reporter.say,
        over="objects" if is_walk else "views",
    )
    needed, axes = principal.axes_that_hold(0.9), len(principal.deviation)
    views = len(chosen.path.cameras.cam_to_world)
    unit = "frames" if is_walk else "samples"
    reporter.result(
        {
            f"num_{unit}": len(objects),
            "views": views,
            "components": axes,
            "components_of_90_percent_variance": needed,
            "spectrum": principal.spectrum.tolist(),
            "output": str(views_file),
        },
        f"{len(objects)} {unit}, {views} view{'s' if views > 1 else ''} each; {needed} of {axes} principal axes hold "
        f"90% of the variance -> {views_file}",
    )


def _check_effects() -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: there is one.
    """
    given = options.given()
    draws = set(settings_of(SampleSettings))
    if "dataset" in given and "prior" in given:
        options.refuse("and --dataset exclude each other: a dataset is drawn from the Gaussian", "prior")
    datasets = {*settings_of(DatasetSettings), *settings_of(runtime.Scheduler), "workers"}
    if "dataset" in given:
        quality = settings_of(RenderSettings).keys() - {"background"}
        kept = {"model", "dataset", "overwrite", *quality, *settings_of(Messages)}
        options.refuse("and --dataset exclude each other", *(given.keys() - draws - datasets - kept))
    else:
        options.refuse("is for --dataset only", *datasets)
    if not {"between", "direction"} & given.keys():
        options.refuse("is for walks only; give --between or --direction", "codes", "frames")
    if "direction" in given:
        options.refuse("has no effect on --direction, which draws nothing", *draws)
    else:
        options.refuse("is for --direction only", "span")
    if "codes" in given:
        options.refuse("has no effect on a walk between given objects", *draws)


@dataclass(frozen=True)
class _Ends:
    """The objects given as CODE: None without any; their names, and the files that hold them."""

    objects: Objects | None
    names: list[str]
    files: list[Path]

    @classmethod
    def find(cls, model: Model, model_digest: str, codes: list[str]) -> _Ends:
        from nerfgen.model import find_objects, resolve_references

        names, files = resolve_references(model, codes)
        return cls(find_objects(model, model_digest, codes) if codes else None, names, files)


def _objects(
    model: Model,
    ends: _Ends,
    sampling: SampleSettings,
    walking: WalkSettings,
    named: Direction | None,
) -> tuple[Objects, dict[str, object]]:
    """The objects to render, and the parameters that determine them."""
    import numpy as np

    from nerfgen.model import new_objects, walk_axis, walk_between, walk_direction

    principal = model.principal
    if walking.direction is not None:
        low, high = walking.span
        values = np.linspace(low, high, walking.frames)
        parameters: dict[str, object] = {
            "direction": named.name if named else walking.axis,
            "range": [low, high],
            "from": ends.names,
            "frames": walking.frames,
        }
        if named:
            return walk_direction(principal, named, values, ends.objects), parameters
        assert walking.axis is not None
        return walk_axis(principal, walking.axis, values, ends.objects), parameters
    if ends.objects is not None:
        walk = walk_between(ends.objects, principal, walking.frames)
        return walk, {"between": ends.names, "frames": walking.frames}
    drawn = new_objects(model, sampling)
    if walking.between:
        walk = walk_between(drawn, principal, walking.frames)
        return walk, {**sampling.parameters, "frames": walking.frames}
    return drawn, sampling.parameters


def _write_dataset(model: Path, out: Path, reporter: Reporter, *, unit: str, **settings: Any) -> None:
    from nerfgen.dataset import write_dataset

    start = time.monotonic()
    with reporter.progress("rendering", unit) as progress:
        result = write_dataset(model, out, **settings, progress=progress)
    if not result["rendered"]:
        reporter.kept(out)
    if not result["depth_fits"]:
        reporter.say(
            "some cameras are beyond the range of 16-bit depth: 65535 means 13.1 world units or more"
        )
    if not result["landmarks"]:
        reporter.say("the model's class has no landmarks; landmarks.h5 is not written")
    rejected = f", {result['rejected']} draws rejected" if settings["dataset"].min_distance else ""
    reporter.result(
        result | {"seconds": round(time.monotonic() - start, 2)},
        f"{result['identities']} identities, {result['views']} views each, in {result['shards']} shards; "
        f"{result['too_near']} nearer than {result['near_distance']:.2f} to a training row{rejected} -> {out}",
    )
