"""The evaluation of a model: table after table, and the report of them as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.evaluate.cameras import cameras_table
from nerfgen.evaluate.depth import depth_table
from nerfgen.evaluate.fitting import fit_table
from nerfgen.evaluate.novel import novel_table
from nerfgen.evaluate.samples import samples_table
from nerfgen.evaluate.sources import Settings, Sources
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.training import train_table
from nerfgen.field import load_model
from nerfgen.parallel import Progress, silent
from nerfgen.photo import digest_images, find_images
from nerfgen.report.catalogue import TABLES
from nerfgen.report.file import SCHEMA, Report, load_report, save_report
from nerfgen.report.table import Table

# Each makes one table; it tells its progress in photographs, views or samples.
TableMaker = Callable[[Subject, Progress], Table]
Show = Callable[[str], AbstractContextManager[Progress]]

MAKERS: dict[str, TableMaker] = {
    "train": train_table,
    "fit": fit_table,
    "novel": novel_table,
    "depth": depth_table,
    "samples": samples_table,
    "cameras": cameras_table,
}

# Files beside photographs that tables are made from, where they are there.
_BESIDE = ("landmarks.h5", "cameras.h5", "masks.h5", "truth.h5")


def table_names(text: str) -> list[str]:
    """Tables from words such as ``train,novel``, in the order of the catalogue.

    Raises:
        InputError: there is none of that name, or none at all.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in TABLES:
            raise InputError(f"--tables {text}: there is no table {name!r}; there are {', '.join(TABLES)}")
    if not names:
        raise InputError(f"--tables: give some of {', '.join(TABLES)}")
    return [name for name in TABLES if name in names]


def show_nothing(label: str) -> AbstractContextManager[Progress]:
    """No progress."""
    return nullcontext(silent)


def evaluate_model(
    sources: Sources,
    output: Path,
    *,
    settings: Settings = Settings(),
    tables: Sequence[str] = tuple(TABLES),
    name: str = "",
    workers: int = 0,
    overwrite: bool = False,
    show: Show = show_nothing,
) -> tuple[Report, bool]:
    """Make the tables of a model and write them as ``report/1``; a report that is current is kept.

    Args:
        name: what the report calls the model; by default its folder and file.
        workers: processes; 0 for one a core.
        show: a progress display for a table.

    Returns:
        The report, and whether it was there already.

    Raises:
        InputError: the model or a file that was given can't be used. What is only absent (truth, others,
            pretrained weights) is told in the tables.
        OutputExistsError: ``output`` is another report.
    """
    model = load_model(sources.model)
    about: artifact.About = {
        "object_class": model.object_class,
        "parameters": asdict(settings) | {"tables": list(tables)},
        "inputs": [artifact.file_record(sources.model), *source_records(sources)],
    }
    if artifact.is_current(output, SCHEMA, **about, overwrite=overwrite):
        return load_report(output), True
    subject = Subject(model, sources, settings, workers)
    made: dict[str, Table] = {}
    for table in tables:
        with show(table) as progress:
            made[table] = MAKERS[table](subject, progress)
    figures = {table: held.summary(settings.seed) for table, held in made.items()}
    called = name or "/".join(sources.model.resolve().parts[-2:])
    save_report(output, Report(called, made, figures), about)
    return load_report(output), False


def source_records(sources: Sources) -> list[dict[str, Any]]:
    """Provenance of all that tables are made from beside the model, whose file knows its own photographs.

    Raises:
        InputError: a file or folder that was given does not exist.
    """
    given = [path for path in (sources.pairs, sources.keypoints, sources.landmarker) if path]
    for file in given:
        if not file.is_file():
            raise InputError(f"{file} does not exist")
    folders = [folder for folder in (sources.data, sources.others) if folder]
    beside = [folder / name for folder in folders for name in _BESIDE if (folder / name).is_file()]
    records = [artifact.file_record(file) for file in (*given, *beside)]
    if sources.others:
        images = find_images(sources.others)
        records.append(artifact.folder_record(images, digest_images(sources.others, images)))
    return records
