"""``nerfgen sample``: new objects that never existed, walks between objects, and datasets of new objects."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nerfgen.cli import choices, runtime, views

if TYPE_CHECKING:
    from nerfgen.dataset import Settings
    from nerfgen.field import Model
    from nerfgen.generate import Objects, Principal

EPILOG = runtime.examples(
    "Examples",
    "nerfgen sample photos/model.h5 -n 8 --sheet people.png",
    "nerfgen sample photos/model.h5 -n 16 --truncation 1.0 --seed 7 --orbit 48 --video people.mp4",
    "nerfgen sample photos/model.h5 --between 3 17 photos/samples.h5:0 --frames 96 --video between.mp4",
    "nerfgen sample photos/model.h5 --direction 1 --range -3:3 --video first.mp4",
    "nerfgen sample photos/model.h5 -n 10000 --views 8 --dataset people",
)

_WALKS = "Walks, in place of new objects"
_DATASET = "Dataset for others, in place of samples.h5"

# Options by what they are for, under their names in the function below.
_DRAWS = {"count", "truncation", "components", "seed"}
_OF_DATASETS = {"each", "poses", "min_distance", "transforms", "shard_size", "shard"}
_WITH_DATASETS = {
    "model",
    "dataset",
    "size",
    "samples",
    "antialias",
    "overwrite",
    "quiet",
    "as_json",
    "debug",
}


def sample(
    context: typer.Context,
    model: runtime.ModelFile,
    codes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CODE",
            help="Objects to walk between or from: rows such as 3 or 0,5-9, files of codes such as fitted.h5, or some "
            "of a file's objects, samples.h5:2.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--num-samples", min=1, help="New objects.")] = 8,
    truncation: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Draws are from a Gaussian truncated at so many standard deviations: less is cleaner, more is "
            "more varied, 0 is the mean.",
        ),
    ] = 0.7,
    components: Annotated[int, typer.Option(min=0, help="Principal axes that vary; 0: all.")] = 0,
    seed: runtime.Seed = 0,
    between: Annotated[
        bool,
        typer.Option(
            "--between",
            help="Walk from the first CODE to the last through all others; without a CODE, through new objects.",
            rich_help_panel=_WALKS,
        ),
    ] = False,
    direction: Annotated[
        int | None,
        typer.Option(
            metavar="PC",
            min=1,
            help="Walk along a principal axis, counted from 1, from the mean or from one CODE.",
            show_default=False,
            rich_help_panel=_WALKS,
        ),
    ] = None,
    span: Annotated[
        str,
        typer.Option(
            "--range",
            metavar="FROM:TO",
            help="What the coordinate along --direction runs through, in standard deviations.",
            rich_help_panel=_WALKS,
        ),
    ] = "-3:3",
    frames: Annotated[
        int, typer.Option(min=2, help="Steps of a walk, its ends included.", rich_help_panel=_WALKS)
    ] = 48,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a folder that others train on: each object from several sides, with mask, depth, cameras and "
            "landmarks. A call that was interrupted goes on where it ended.",
            show_default=False,
            rich_help_panel=_DATASET,
        ),
    ] = None,
    each: Annotated[
        int, typer.Option("--views", min=1, help="Views of each object.", rich_help_panel=_DATASET)
    ] = 8,
    poses: Annotated[
        str,
        typer.Option(
            metavar="POSES",
            help="training: as the training photographs are; uniform:YAW,PITCH: up to so many degrees to either side; "
            "normal:YAW,PITCH: with these standard deviations.",
            rich_help_panel=_DATASET,
        ),
    ] = "training",
    min_distance: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Draw again what is nearer to a training row: 0 is the same but for truncation, 1 independent.",
            rich_help_panel=_DATASET,
        ),
    ] = 0.0,
    transforms: Annotated[
        bool,
        typer.Option(
            "--transforms",
            help="Also write the cameras of each object as transforms.json.",
            rich_help_panel=_DATASET,
        ),
    ] = False,
    shard_size: Annotated[int, typer.Option(min=1, help="Objects a shard.", rich_help_panel=_DATASET)] = 100,
    shard: Annotated[
        str,
        typer.Option(
            metavar="K/N",
            help="Only the K-th of N parts of the shards, for several machines.",
            rich_help_panel=_DATASET,
        ),
    ] = "1/1",
    yaw: views.Yaw = "",
    pitch: views.Pitch = "",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    fov: views.FieldOfView = 0.0,
    position: views.Position = "",
    look: views.Look = "",
    path: views.PathFile = None,
    save_path: views.SavePath = None,
    size: views.Size = 0,
    samples: views.Samples = 0,
    antialias: views.Antialias = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
    kinds: views.Kinds = "",
    fps: views.Fps = 0.0,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Draw new objects from the table's Gaussian and render them; writes samples.h5 beside the model.

    With --between and --direction, the objects are the steps of a walk through the space of codes, seen from the front
    unless angles are given; a video shows one after the other, and walk.h5 is written. With --dataset, a folder of
    pictures is written in place of a file.
    """
    given = runtime.given_options(context)
    _check(given)
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    if dataset:
        from nerfgen.dataset import Settings, parse_poses

        settings = Settings(
            identities=count,
            views=each,
            size=size,
            samples=samples,
            antialias=antialias,
            truncation=truncation,
            components=components,
            seed=seed,
            poses=parse_poses(poses),
            min_distance=min_distance,
            transforms=transforms,
            shard_size=shard_size,
        )
        _write_dataset(model, dataset, settings, shard, overwrite, reporter)
        return
    walking = between or direction is not None
    if walking and not given.keys() & {"yaw", "orbit", "position", "path"}:
        yaw = "0"
    cameras = choices.CameraChoice(yaw, pitch, orbit, distance, fov, position, look, path)
    pictures = choices.PictureChoice(png, sheet, video, save_path, kinds, fps)

    from nerfgen import artifact, field
    from nerfgen.errors import InputError
    from nerfgen.generate import fitting_antialias, principal_axes, render_to_file

    model_file = field.model_file(model)
    trained = field.load_model(model_file)
    output = output or model_file.with_name("walk.h5" if walking else "samples.h5")
    size = size or trained.size
    antialias = antialias or fitting_antialias(trained, size)
    chosen = cameras.of(trained.object_class, trained.distance)
    pictures.check(chosen.path)
    principal = principal_axes(trained.latents)
    record = artifact.file_record(model_file)
    draws = {"num_samples": count, "truncation": truncation, "components": components, "seed": seed}
    found = _Found(trained, record["sha256"], codes or [])
    if output.resolve() in [file.resolve() for file in found.files]:
        raise InputError(
            f"{output} holds a CODE that the walk is to be made from; give -o FILE for another place"
        )
    if direction is not None:
        objects, told = _along_axis(principal, found, direction, span, frames)
    elif between:
        objects, told = _between(principal, found, draws, frames)
    else:
        objects, told = _drawn(principal, draws), draws
    parameters = {**told, **chosen.parameters, "size": size, "samples": samples, "antialias": antialias}
    inputs = [record, *chosen.inputs, *(artifact.file_record(file) for file in found.files)]
    about: artifact.About = {"object_class": trained.object_class, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(output, "views/1", **about, overwrite=overwrite):
        reporter.kept(output)
    else:
        with reporter.progress("rendering", "objects") as progress:
            render_to_file(
                trained,
                objects,
                output,
                cameras=chosen.path.cameras,
                size=size,
                samples=samples,
                antialias=antialias,
                further={"deviation": principal.deviation},
                about=about,
                progress=progress,
            )
    over: Literal["views", "objects"] = "objects" if walking else "views"
    pictures.write(output, trained, model_file.parent, chosen.path, reporter, over=over)
    most, axes = principal.axes_that_hold(0.9), len(principal.deviation)
    views_count = len(chosen.path.cameras.cam_to_world)
    what = "frames" if walking else "samples"
    reporter.result(
        {
            f"num_{what}": len(objects),
            "views": views_count,
            "components": axes,
            "components_of_90_percent_variance": most,
            "spectrum": principal.spectrum.tolist(),
            "output": str(output),
        },
        f"{len(objects)} {what}, {views_count} view{'s' if views_count > 1 else ''} each; {most} of {axes} principal "
        f"axes hold 90% of the variance -> {output}",
    )


def _check(given: dict[str, str]) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: there is one.
    """
    from nerfgen.errors import InputError

    walks = {"between", "direction"} & given.keys()
    rules = (
        (
            "dataset" in given,
            given.keys() - _DRAWS - _OF_DATASETS - _WITH_DATASETS,
            "and --dataset exclude each other",
        ),
        ("dataset" not in given, _OF_DATASETS, "is for --dataset only"),
        ("between" in given, {"direction"}, "and --between exclude each other"),
        (not walks, {"codes", "frames"}, "is for walks only: give --between or --direction"),
        ("direction" not in given, {"span"}, "is for --direction only"),
        ("direction" in given, _DRAWS, "has no effect on --direction, which draws nothing"),
        ("codes" in given, _DRAWS, "has no effect on a walk between objects that are given"),
    )
    for applies, names, why in rules:
        for name, written in given.items():
            if applies and name in names:
                raise InputError(f"{written} {why}")


def _drawn(principal: Principal, draws: dict[str, Any]) -> Objects:
    from nerfgen.generate import drawn_objects

    return drawn_objects(
        principal.first(draws["components"]), draws["num_samples"], draws["truncation"], draws["seed"]
    )


class _Found:
    """What was given as CODE: ``objects``, None if there are none, their ``names``, and the ``files`` they are from."""

    def __init__(self, model: Model, model_digest: str, codes: list[str]) -> None:
        from nerfgen.generate import find_objects, referenced

        self.names, self.files = referenced(model, codes)
        self.objects = find_objects(model, model_digest, codes) if codes else None


def _between(
    principal: Principal, found: _Found, draws: dict[str, Any], frames: int
) -> tuple[Objects, dict[str, Any]]:
    """The walk through given or drawn objects, and the parameters that tell it."""
    from nerfgen.generate import walk_between

    if found.objects is None:
        return walk_between(_drawn(principal, draws), principal, frames), {**draws, "frames": frames}
    return walk_between(found.objects, principal, frames), {"between": found.names, "frames": frames}


def _along_axis(
    principal: Principal, found: _Found, axis: int, span: str, frames: int
) -> tuple[Objects, dict[str, Any]]:
    """The walk along an axis, and the parameters that tell it."""
    import numpy as np

    from nerfgen.generate import walk_axis

    low, high = _ends(span)
    told = {"direction": axis, "range": [low, high], "from": found.names, "frames": frames}
    return walk_axis(principal, axis, np.linspace(low, high, frames), found.objects), told


def _ends(span: str) -> tuple[float, float]:
    from nerfgen.errors import InputError

    try:
        low, high = (float(part) for part in span.split(":"))
    except ValueError:
        low = high = math.nan
    if not math.isfinite(low + high):
        raise InputError(f"--range {span}: give two numbers such as -3:3")
    return low, high


def _write_dataset(
    model: Path, out: Path, settings: Settings, shard: str, overwrite: bool, reporter: runtime.Reporter
) -> None:
    from nerfgen.dataset import parse_part, write_dataset

    start = time.monotonic()
    with reporter.progress("rendering", "identities") as progress:
        result = write_dataset(
            model, out, settings, part=parse_part(shard), overwrite=overwrite, progress=progress
        )
    if not result["rendered"]:
        reporter.say(f"{out} is complete and current; kept (--overwrite makes it anew)")
    if not result["depth_fits"]:
        reporter.say(
            "some cameras are farther away than 16 bits of depth reach: a depth of 65535 is 13.1 units or more"
        )
    if not result["landmarks"]:
        reporter.say("the model's class has no landmarks: no landmarks.h5 is written")
    rejected = f", {result['rejected']} draws rejected" if settings.min_distance else ""
    reporter.result(
        result | {"seconds": round(time.monotonic() - start, 2)},
        f"{result['identities']} identities, {result['views']} views each, in {result['shards']} shards; "
        f"{result['too_near']} nearer than {result['near_distance']:.2f} to a training row{rejected} -> {out}",
    )
