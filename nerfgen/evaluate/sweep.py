"""Studies: one setting swept, a model trained and evaluated at every point; what is complete is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.evaluate.run import Show, evaluate_model, show_nothing, source_records
from nerfgen.evaluate.sources import Settings, Sources, choose
from nerfgen.report.study import SCHEMA, Point, Study, load_study, save_study
from nerfgen.train import Execution, Preset, TrainingFiles, for_cameras, train

# Settings of a point that are no field of its recipe.
IMAGES, SEED = "images", "seed"


@dataclass(frozen=True)
class Sweep:
    """A setting and its values, as they were given.

    Attributes:
        name: ``images`` (photographs to train on), ``seed``, or a field of the recipe.
        values: in words.
    """

    name: str
    values: list[str]


@dataclass(frozen=True)
class Training:
    """How the model of every point is trained.

    Attributes:
        cameras, masks: files of the earlier stages; None trains without masks.
        recipe: what the swept setting is changed in.
        minutes: of each training; 0 for the recipe's steps.
    """

    cameras: Path
    masks: Path | None
    recipe: Preset
    minutes: float = 0.0


def parse_sweep(text: str, recipe: Preset) -> Sweep:
    """A sweep from words such as ``images=100,300,1000`` and ``lambda_hard=0,0.1``.

    Raises:
        InputError: other words, a value twice, or one that the recipe's field can't have.
    """
    name, equals, words = text.partition("=")
    values = [word.strip() for word in words.split(",") if word.strip()]
    if not equals or not values:
        raise InputError(
            f"--sweep {text}: give NAME=VALUES, such as images=100,300,1000 or lambda_hard=0,0.1"
        )
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"--sweep {text}: {value} stands there twice")
        if name not in (IMAGES, SEED):
            recipe.with_values(**{name: value})
        elif not value.isdigit() or int(value) < (name == IMAGES):
            raise InputError(
                f"--sweep {text}: {value} is no {'number of images' if name == IMAGES else 'seed'}"
            )
    return Sweep(name, values)


def run_study(
    sweep: Sweep,
    training: Training,
    sources: Sources,
    output: Path,
    *,
    settings: Settings = Settings(),
    tables: Sequence[str] = ("train", "fit", "novel", "depth"),
    workers: int = 0,
    overwrite: bool = False,
    show: Show = show_nothing,
) -> tuple[Study, bool]:
    """Train and evaluate a model for every value of a setting, and write ``study/1``.

    The points are folders in ``output`` without its suffix, such as ``study/images=100``, each with the model and its
    report. Those that are complete are kept, and a training that was interrupted goes on from its checkpoint. With
    fewer images, those that remain are some of those that more would give, and of the tables too.

    Args:
        sources: what all points are evaluated by; ``model`` is not looked at.
        overwrite: replace a study, and those of its points that are of other settings.

    Returns:
        The study, and whether it was there already.

    Raises:
        InputError: there are fewer usable images than a point asks for, or a file can't be used.
        OutputExistsError: ``output``, or a point's file, is one of other settings.
    """
    made_by = f"nerfgen fit-cameras {sources.data}"
    with artifact.reading(training.cameras, "cameras/1", "truth/1", made_by=made_by) as file:
        described = artifact.class_of(file)
        usable = int(artifact.usable(artifact.strings(file["status"])).sum())
    if sweep.name == IMAGES and max(map(int, sweep.values)) > usable:
        raise InputError(
            f"{training.cameras} has {usable} usable images, fewer than --sweep {IMAGES}={','.join(sweep.values)}"
        )
    files = [path for path in (training.cameras, training.masks) if path]
    parameters = asdict(settings) | {"sweep": asdict(sweep), "tables": list(tables)}
    parameters |= {"recipe": asdict(training.recipe), "minutes": training.minutes}
    about: artifact.About = {
        "object_class": described,
        "parameters": parameters,
        "inputs": [artifact.file_record(file) for file in files] + source_records(sources),
    }
    if artifact.is_current(output, SCHEMA, **about, overwrite=overwrite):
        return load_study(output), True
    points = []
    for value in sweep.values:
        label = f"{sweep.name}={value}"
        folder = output.with_suffix("") / label
        folder.mkdir(parents=True, exist_ok=True)
        try:
            train_point(sweep.name, value, training, sources.data, folder, seed=settings.seed, show=show)
        except OutputExistsError:
            # What was trained as is now asked for took long, and would be trained again: only what differs is replaced.
            if not overwrite:
                raise
            artifact.remove_folder(folder)
            folder.mkdir()
            train_point(sweep.name, value, training, sources.data, folder, seed=settings.seed, show=show)
        model = folder / "model.h5"
        report, _ = evaluate_model(
            replace(sources, model=model),
            folder / "report.h5",
            settings=settings,
            tables=tables,
            name=label,
            workers=workers,
            overwrite=overwrite,
            show=_labelled(show, label),
        )
        with artifact.reading(model, "model/1") as file:
            images = len(file["image"]) + len(file.get("further_image", ()))
            points.append(Point(value, images, int(file.attrs["steps"]), report.figures))
    save_study(output, Study(sweep.name, points), about)
    return load_study(output), False


def _labelled(show: Show, label: str) -> Show:
    return lambda table: show(f"{label}: {table}")


def train_point(
    name: str,
    value: str,
    training: Training,
    data: Path,
    folder: Path,
    *,
    seed: int = 0,
    show: Show = show_nothing,
) -> None:
    """Train the model of one point into ``folder``, unless it is there; an unfinished training goes on."""
    recipe, cameras = training.recipe, training.cameras
    if name == IMAGES:
        cameras = folder / "cameras.h5"
        _write_some(training.cameras, cameras, int(value), seed)
    elif name == SEED:
        seed = int(value)
    else:
        recipe = recipe.with_values(**{name: value})
    with artifact.reading(cameras, "cameras/1", "truth/1") as file:
        described = artifact.class_of(file)
    pixels = folder / "pixels.h5"
    with show(f"{name}={value}: training") as progress:
        train(
            TrainingFiles(data, cameras, training.masks, folder / "model.h5"),
            for_cameras(recipe, cameras),
            object_class=described,
            seed=seed,
            minutes=training.minutes,
            execution=Execution(cache=pixels),
            resume=True,
            progress=progress,
        )
    pixels.unlink(missing_ok=True)


def _write_some(cameras: Path, output: Path, count: int, seed: int) -> None:
    """A cameras file of ``count`` of the usable images of another."""
    with artifact.reading(cameras, "cameras/1", "truth/1") as source:
        images, status = artifact.strings(source["image"]), artifact.strings(source["status"])
        usable = np.flatnonzero(artifact.usable(status))
        rows = usable[choose([images[row] for row in usable], count, seed)]
        about: artifact.About = {
            "object_class": artifact.class_of(source),
            "parameters": {"images": count, "seed": seed},
            "inputs": [artifact.file_record(cameras)],
        }
        if artifact.is_current(output, "cameras/1", **about, overwrite=False):
            return
        with artifact.create(output, "cameras/1", **about) as file:
            for spec in artifact.SCHEMAS["cameras/1"].datasets:
                if spec.name in source:
                    stored = source[spec.name]
                    values = stored.asstr()[:] if spec.kind == "string" else stored[:]
                    artifact.put(file, spec.name, values[rows] if spec.shape[0] == "image" else values)
