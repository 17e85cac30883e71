"""``nerfgen sample``: new objects that never existed, walks between objects, and datasets of new objects."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import runtime, views

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
    yaw: views.Yaw = "-40,-20,0,20,40",
    pitch: views.Pitch = "0",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    size: views.Size = 0,
    samples: views.Samples = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
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
    from nerfgen import artifact
    from nerfgen.field import load_model
    from nerfgen.generate import principal_axes, render_to_file, turned_cameras

    given = runtime.given_options(context)
    _check(given)
    path = model / "model.h5" if model.is_dir() else model
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    if dataset:
        from nerfgen.dataset import Settings, parse_poses

        settings = Settings(
            identities=count,
            views=each,
            size=size,
            samples=samples,
            truncation=truncation,
            components=components,
            seed=seed,
            poses=parse_poses(poses),
            min_distance=min_distance,
            transforms=transforms,
            shard_size=shard_size,
        )
        _write_dataset(path, dataset, settings, shard, overwrite, reporter)
        return
    trained = load_model(path)
    walking = between or direction is not None
    output = output or path.with_name("walk.h5" if walking else "samples.h5")
    size, distance = size or trained.size, distance or trained.distance
    angles = views.angles_of(trained, yaw if not walking or "yaw" in given else "0", pitch, orbit)
    principal = principal_axes(trained.latents)
    draws = {"num_samples": count, "truncation": truncation, "components": components, "seed": seed}
    if direction is not None:
        objects, chosen, files = _along_axis(trained, principal, codes or [], direction, span, frames)
    elif between:
        objects, chosen, files = _between(trained, principal, codes or [], draws, frames)
    else:
        objects, chosen, files = _drawn(principal, draws), draws, []
    parameters = chosen | {
        "angles": angles.tolist(),
        "distance": distance,
        "size": size,
        "samples": samples,
    }
    inputs = [artifact.file_record(file) for file in (path, *files)]
    about: artifact.About = {"object_class": trained.object_class, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(output, "views/1", **about, overwrite=overwrite):
        reporter.kept(output)
    else:
        with reporter.progress("rendering", "objects") as progress:
            render_to_file(
                trained,
                objects,
                output,
                cameras=turned_cameras(angles[:, 0], angles[:, 1], distance),
                size=size,
                samples=samples,
                further={"deviation": principal.deviation},
                about=about,
                progress=progress,
            )
    views.write_pictures(
        output, reporter, png=png, sheet=sheet, video=video, over="objects" if walking else "views"
    )
    most, axes = principal.axes_that_hold(0.9), len(principal.deviation)
    what = "frames" if walking else "samples"
    reporter.result(
        {
            f"num_{what}": len(objects),
            "views": len(angles),
            "components": axes,
            "components_of_90_percent_variance": most,
            "spectrum": principal.spectrum.tolist(),
            "output": str(output),
        },
        f"{len(objects)} {what}, {len(angles)} view{'s' if len(angles) > 1 else ''} each; {most} of {axes} principal "
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


def _between(
    model: Model, principal: Principal, codes: list[str], draws: dict[str, Any], frames: int
) -> tuple[Objects, dict[str, Any], list[Path]]:
    """The walk through given or drawn objects, the parameters that tell it, and the files of its ends."""
    from nerfgen.generate import find_objects, referenced, walk_between

    if not codes:
        return walk_between(_drawn(principal, draws), principal, frames), draws | {"frames": frames}, []
    names, files = referenced(model, codes)
    return (
        walk_between(find_objects(model, codes), principal, frames),
        {"between": names, "frames": frames},
        files,
    )


def _along_axis(
    model: Model, principal: Principal, codes: list[str], axis: int, span: str, frames: int
) -> tuple[Objects, dict[str, Any], list[Path]]:
    """The walk along an axis, the parameters that tell it, and the file of its start."""
    import numpy as np

    from nerfgen.generate import find_objects, referenced, walk_axis

    low, high = _ends(span)
    names, files = referenced(model, codes)
    start = find_objects(model, codes) if codes else None
    chosen = {"direction": axis, "range": [low, high], "from": names, "frames": frames}
    return walk_axis(principal, axis, np.linspace(low, high, frames), start), chosen, files


def _ends(span: str) -> tuple[float, float]:
    from nerfgen.errors import InputError

    try:
        low, high = (float(part) for part in span.split(":"))
    except ValueError as error:
        raise InputError(f"--range {span}: give two numbers such as -3:3") from error
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
    if not result["landmarks"]:
        reporter.say("the model's class has no landmarks: no landmarks.h5 is written")
    rejected = f", {result['rejected']} draws rejected" if settings.min_distance else ""
    reporter.result(
        result | {"seconds": round(time.monotonic() - start, 2)},
        f"{result['identities']} identities, {result['views']} views each, in {result['shards']} shards; "
        f"{result['too_near']} nearer than {result['near_distance']:.2f} to a training row{rejected} -> {out}",
    )
