"""The evaluation of a model: table after table, and the report of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from nerfgen.evaluate.cameras import cameras_table
from nerfgen.evaluate.catalogue import TABLES
from nerfgen.evaluate.samples import samples_table
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.table import Table
from nerfgen.evaluate.training import train_table
from nerfgen.parallel import Progress

# Each makes one table; it tells its progress in photographs, views or samples.
TableMaker = Callable[[Subject, Progress], Table]

MAKERS: dict[str, TableMaker] = {
    "train": train_table,
    "samples": samples_table,
    "cameras": cameras_table,
}


def make_tables(
    subject: Subject,
    names: Sequence[str],
    show: Callable[[str], AbstractContextManager[Progress]],
) -> dict[str, Table]:
    """The named tables, in the order of the catalogue.

    Args:
        show: a progress display for a table.
    """
    tables = {}
    for name in TABLES:
        if name in names:
            with show(name) as progress:
                tables[name] = MAKERS[name](subject, progress)
    return tables
