"""The evaluation of one model: its tables, written as a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from nerfgen import storage
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.cameras import cameras_table
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.depth import depth_table
from nerfgen.evaluate.novel_views import novel_table
from nerfgen.evaluate.pairs import pairs_table
from nerfgen.evaluate.reconstruction import fit_table, train_table
from nerfgen.evaluate.samples import samples_table
from nerfgen.evaluate.settings import EvaluationInputs, EvaluationSettings
from nerfgen.image import digest_images, find_images, local_folder
from nerfgen.landmark import estimator_for
from nerfgen.metric import available_networks
from nerfgen.model import load_model
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, silent
from nerfgen.pretrained import mediapipe_interface
from nerfgen.report import REPORT_SCHEMA, TABLES, Report, Table, load_report, save_report

# Makes one table; progress counts images, views or samples.
TableFunction = Callable[[EvaluationContext, Progress], Table]
ShowProgress = Callable[[str], AbstractContextManager[Progress]]

TABLE_FUNCTIONS: dict[str, TableFunction] = {
    "train": train_table,
    "fit": fit_table,
    "novel": novel_table,
    "pairs": pairs_table,
    "depth": depth_table,
    "samples": samples_table,
    "cameras": cameras_table,
}

# Files beside the images that tables use where they exist.
_STAGE_FILES = ("landmarks.h5", "cameras.h5", "masks.h5", "truth.h5")
# Pretrained networks that each table uses.
_NETWORKS = {
    "train": ("lpips", "features"),
    "fit": ("lpips", "inception", "features", "identity"),
    "novel": ("lpips", "features"),
    "pairs": ("lpips", "features", "identity"),
    "samples": ("inception", "features", "identity"),
}
# Tables that detect landmarks in images or renderings.
_DETECTING = {"fit", "novel", "pairs", "depth", "samples"}


def table_names(text: str) -> list[str]:
    """Tables of a comma-separated list such as ``train,novel``, in the order of the catalogue.

    Raises:
        InputError: the list is empty or has an unknown name.
    """
    return check_tables([name.strip() for name in text.split(",") if name.strip()])


def check_tables(names: Sequence[str]) -> list[str]:
    """The names in the order of the catalogue.

    Raises:
        InputError: the list is empty or has an unknown name.
    """
    for name in names:
        if name not in TABLES:
            raise InputError(f"`tables`: unknown table {name!r}; choose from {', '.join(TABLES)}")
    if not names:
        raise InputError(f"`tables` is empty; choose from {', '.join(TABLES)}")
    return [name for name in TABLES if name in names]


def show_nothing(label: str) -> AbstractContextManager[Progress]:
    """No progress display."""
    return nullcontext(silent)


def evaluate_model(
    inputs: EvaluationInputs,
    output: Path,
    *,
    settings: EvaluationSettings = EvaluationSettings(),
    tables: Sequence[str] = tuple(TABLES),
    name: str = "",
    workers: int | None = None,
    overwrite: bool = False,
    show: ShowProgress = show_nothing,
) -> tuple[Report, bool]:
    """Make the tables of a model and write them as ``report/1``; a current report is kept.

    Metrics that cannot be computed (no ground truth, no held-out images, no pretrained weights) are listed as missing
    in their table; the others are unaffected.

    Args:
        tables: keys of :data:`nerfgen.report.TABLES`.
        name: the model's name in the report; its folder and file by default.
        workers: processes; one per core by default.
        overwrite: replace an existing report.
        show: progress display of a table.

    Returns:
        The report, and whether an existing one was kept.

    Raises:
        InputError: the model or a given file is unusable, or ``tables`` is empty or has an unknown name.
        OutputExistsError: ``output`` is another report.
    """
    tables = check_tables(tables)
    model = load_model(inputs.model)
    stage = storage.Stage(
        output,
        REPORT_SCHEMA,
        model.object_class,
        parameters=asdict(settings)
        | {"tables": tables}
        | available_estimators(tables, model.object_class, inputs),
        inputs=[storage.file_record(inputs.model), *input_records(inputs)],
    )
    if stage.is_current(overwrite=overwrite):
        return load_report(output), True
    context = EvaluationContext(model, inputs, settings, workers)
    made: dict[str, Table] = {}
    with stage.claimed():
        for table in tables:
            with show(table) as progress:
                made[table] = TABLE_FUNCTIONS[table](context, progress)
        estimates = {table: content.summary(settings.seed) for table, content in made.items()}
        model_name = name or "/".join(inputs.model.resolve().parts[-2:])
        save_report(stage, Report(model_name, made, estimates))
    return load_report(output), False


def available_estimators(
    tables: Sequence[str], object_class: ObjectClass, inputs: EvaluationInputs
) -> dict[str, object]:
    """The pretrained networks and the landmark estimator that tables use and that are available.

    Without one, its metrics are missing. As parameters of a report, they end its being current once that changes.
    """
    names = {name for table in tables for name in _NETWORKS.get(table, ())}
    found: dict[str, object] = {"networks": available_networks(names, inputs.weights)}
    if set(tables) & _DETECTING:
        found["landmark_estimator"] = _landmark_estimator(object_class, inputs.landmarker)
    return found


def _landmark_estimator(object_class: ObjectClass, file: Path | None) -> str:
    """Identity of the class's landmark estimator; "" if it is unavailable."""
    try:
        estimator = estimator_for(object_class, file)
        if estimator.network:
            mediapipe_interface()
    except (InputError, MissingDependencyError):
        return ""
    return estimator.identity


def input_records(inputs: EvaluationInputs) -> list[storage.InputRecord]:
    """Provenance of all inputs but the model, whose file records its own training images.

    Raises:
        InputError: a given file or folder does not exist.
    """
    given = [path for path in (inputs.pairs, inputs.keypoints, inputs.visible, inputs.landmarker) if path]
    for file in given:
        if not file.is_file():
            raise InputError(f"{file} does not exist")
    folders = [local_folder(folder) for folder in (inputs.data, inputs.held_out) if folder]
    stage_files = [folder / name for folder in folders for name in _STAGE_FILES if (folder / name).is_file()]
    records = [storage.file_record(file) for file in (*given, *stage_files)]
    if inputs.held_out:
        images = find_images(inputs.held_out)
        records.append(storage.folder_record(images, digest_images(inputs.held_out, images)))
    return records
