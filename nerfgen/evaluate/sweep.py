"""Sweeps: a model trained and evaluated for each value of one setting; complete points are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.evaluate.model_report import (
    ShowProgress,
    available_estimators,
    check_tables,
    evaluate_model,
    input_records,
    show_nothing,
)
from nerfgen.evaluate.settings import EvaluationInputs, EvaluationSettings
from nerfgen.image import ImageFolder
from nerfgen.model import Recipe
from nerfgen.report import STUDY_SCHEMA, Point, Study, load_study, save_study
from nerfgen.settings import MAX_COUNT, MAX_SEED, parse_count
from nerfgen.train import Machine, Observers, TrainingFiles, train

# Swept settings that are not fields of the recipe.
IMAGES, SEED = "images", "seed"


@dataclass(frozen=True)
class Sweep:
    """A setting and its values, as given.

    Attributes:
        name: ``images`` (number of training images), ``seed``, or a field of the recipe.
        values: the values as text.
    """

    name: str
    values: list[str]


@dataclass(frozen=True)
class SweepTraining:
    """How the model of every point is trained.

    Attributes:
        cameras: cameras of the training images.
        masks: masks of the training images; None trains without masks.
        recipe: recipe in which the swept setting is changed.
        minutes: time limit of each training; 0 for the recipe's steps.
    """

    cameras: Path
    masks: Path | None
    recipe: Recipe
    minutes: float = 0.0


def parse_sweep(text: str, recipe: Recipe) -> Sweep:
    """A sweep from text such as ``images=100,300,1000`` or ``lambda_hard=0,0.1``.

    Raises:
        InputError: the text has another form, a repeated value, or a value that is invalid for the setting.
    """
    name, equals, listed = text.partition("=")
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if not equals or not values:
        raise InputError(
            f"`sweep` {text!r}: expected NAME=VALUES, such as images=100,300,1000 or lambda_hard=0,0.1"
        )
    for value in values:
        if values.count(value) > 1:
            raise InputError(f"`sweep` {text!r}: {value} is listed twice")
        if name not in (IMAGES, SEED):
            recipe.with_values(**{name: value})
        elif not _is_count(value, *((1, MAX_COUNT) if name == IMAGES else (0, MAX_SEED))):
            raise InputError(
                f"`sweep` {text!r}: {value} is not a valid {'number of images' if name == IMAGES else 'seed'}"
            )
    return Sweep(name, values)


def _is_count(text: str, least: int, most: int) -> bool:
    try:
        return least <= parse_count(text) <= most
    except ValueError:
        return False


def run_study(
    sweep: Sweep,
    training: SweepTraining,
    inputs: EvaluationInputs,
    output: Path,
    *,
    settings: EvaluationSettings = EvaluationSettings(),
    tables: Sequence[str] = ("train", "fit", "novel", "depth"),
    workers: int | None = None,
    overwrite: bool = False,
    show: ShowProgress = show_nothing,
) -> tuple[Study, bool]:
    """Train and evaluate a model for every value of a setting, and write ``study/1``.

    Every point has a folder in ``output`` without its suffix, such as ``study/images=100``, with its model and report.
    Complete points are kept; an interrupted training resumes from its checkpoint. Smaller sets of training images are
    subsets of larger ones, and so are the images of the tables.

    Args:
        inputs: inputs of all evaluations; ``model`` is ignored.
        overwrite: replace a study, and those of its points that have other settings.

    Returns:
        The study, and whether an existing one was kept.

    Raises:
        InputError: a point needs more images than are usable, the sweep has no value, or a file is unusable.
        OutputExistsError: ``output``, or a point's file, has other settings.
    """
    tables = check_tables(tables)
    if not sweep.values:
        raise InputError(f"`sweep` of {sweep.name} has no value")
    made_by = f"nerfgen fit-cameras {folder_name(inputs.data)}"
    with storage.reading(training.cameras, "cameras/1", "truth/1", made_by=made_by) as file:
        described = storage.class_of(file)
        usable = int(storage.usable(storage.strings(file["status"])).sum())
    if sweep.name == IMAGES and max(map(int, sweep.values)) > usable:
        raise InputError(
            f"{training.cameras} has {usable} usable images, fewer than `sweep` {IMAGES}={','.join(sweep.values)} needs"
        )
    files = [path for path in (training.cameras, training.masks) if path]
    parameters = asdict(settings) | {"sweep": asdict(sweep), "tables": tables}
    parameters |= {"recipe": asdict(training.recipe), "minutes": training.minutes}
    parameters |= available_estimators(tables, described, inputs)
    stage = storage.Stage(
        output,
        STUDY_SCHEMA,
        described,
        parameters=parameters,
        inputs=[*map(storage.file_record, files), *input_records(inputs)],
    )
    if stage.is_current(overwrite=overwrite):
        return load_study(output), True
    points = []
    for value in sweep.values:
        label = f"{sweep.name}={value}"
        folder = output.with_suffix("") / label
        folder.mkdir(parents=True, exist_ok=True)
        try:
            train_point(sweep.name, value, training, inputs.data, folder, seed=settings.seed, show=show)
        except OutputExistsError:
            # Even with overwrite, a point trained with the current settings is kept: training is the slow part.
            if not overwrite:
                raise
            storage.remove_folder(folder)
            folder.mkdir()
            train_point(sweep.name, value, training, inputs.data, folder, seed=settings.seed, show=show)
        model = folder / "model.h5"
        report, _ = evaluate_model(
            replace(inputs, model=model),
            folder / "report.h5",
            settings=settings,
            tables=tables,
            name=label,
            workers=workers,
            overwrite=overwrite,
            show=_with_prefix(show, label),
        )
        with storage.reading(model, "model/1") as file:
            images = len(file["image"]) + len(file.get("further_image", ()))
            points.append(Point(value, images, int(file.attrs["steps"]), report.estimates))
    save_study(stage, Study(sweep.name, points))
    return load_study(output), False


def _with_prefix(show: ShowProgress, label: str) -> ShowProgress:
    return lambda table: show(f"{label}: {table}")


def train_point(
    name: str,
    value: str,
    training: SweepTraining,
    data: ImageFolder,
    folder: Path,
    *,
    seed: int = 0,
    show: ShowProgress = show_nothing,
) -> None:
    """Train the model of one point into ``folder`` unless it is complete; an unfinished training resumes."""
    recipe, cameras = training.recipe, training.cameras
    if name == IMAGES:
        cameras = folder / "cameras.h5"
        _write_camera_subset(training.cameras, cameras, int(value), seed)
    elif name == SEED:
        seed = int(value)
    else:
        recipe = recipe.with_values(**{name: value})
    with storage.reading(cameras, "cameras/1", "truth/1") as file:
        described = storage.class_of(file)
    pixels = folder / "pixels.h5"
    with show(f"{name}={value}: training") as progress:
        train(
            TrainingFiles(data, cameras, training.masks, folder / "model.h5"),
            recipe,
            object_class=described,
            seed=seed,
            minutes=training.minutes or None,
            machine=Machine(cache=pixels),
            resume=True,
            observers=Observers(training=progress),
        )
    pixels.unlink(missing_ok=True)


def _write_camera_subset(cameras: Path, output: Path, count: int, seed: int) -> None:
    """A cameras file of ``count`` of the usable images of another."""
    with storage.reading(cameras, "cameras/1", "truth/1") as source:
        images, status = storage.strings(source["image"]), storage.strings(source["status"])
        usable = np.flatnonzero(storage.usable(status))
        rows = usable[choose_subset([images[row] for row in usable], count, seed)]
        stage = storage.Stage(
            output,
            "cameras/1",
            storage.class_of(source),
            parameters={"images": count, "seed": seed},
            inputs=[storage.file_record(cameras)],
        )
        if stage.is_current():
            return
        with stage.create() as file:
            for spec in storage.SCHEMAS["cameras/1"].datasets:
                if spec.name in source:
                    stored = source[spec.name]
                    values = stored.asstr()[:] if spec.kind == "string" else stored[:]
                    storage.put(file, spec.name, values[rows] if spec.shape[0] == "image" else values)
