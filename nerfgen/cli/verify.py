"""``nerfgen verify``: whether files and their inputs are as they were when the files were written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages

EPILOG = runtime.examples(
    "Examples",
    "nerfgen verify photos",
    "nerfgen verify work/masks.h5 --data photos",
    "nerfgen verify backup --json",
    "nerfgen verify photos/cameras.h5 --renew              after a change that you made on purpose",
)


def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER...",
            help="Files that nerfgen wrote, or folders that hold some, of any depth.",
            show_default=False,
        ),
    ],
    *,
    data: Annotated[
        list[Path] | None,
        runtime.file_option(
            "Folder where images and other inputs are, if not beside the file; may be repeated.", "FOLDER"
        ),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="Accept the present content of HDF5 files that another program changed on purpose: check that they "
            "follow their schema, then renew their digests. Files made from them are then no longer current.",
        ),
    ] = False,
    messages: Messages,
) -> None:
    """Check that files are as they were written, and that their inputs have not changed since.

    Of every HDF5 file, its digest, its schema and the digest of each dataset are checked; of every file, the inputs
    that it records, which are looked for beside it. One line a file: ok, or which dataset is damaged or which input
    has changed. Inputs that are not found are reported, and are no failure. If a file fails, the exit code is 2.
    """
    from nerfgen import provenance
    from nerfgen.errors import InputError

    reporter = messages.reporter()
    if renew:
        options.refuse("has no effect on --renew", "data")
        renewed = {str(file): provenance.renew(file) for file in files}
        lines = [f"{file}: {'renewed' if done else 'ok; kept'}" for file, done in renewed.items()]
        reporter.result({"renewed": renewed}, "\n".join(lines))
        return
    folders = [runtime.existing_folder(folder) for folder in data or []]
    found = provenance.find_written(files)
    results = []
    with reporter.progress("verifying", "files") as progress:
        for number, file in enumerate(found, start=1):
            results.append(provenance.verify(file, folders))
            progress(number, len(found))
    reporter.result({"files": [result.as_dict() for result in results]}, "\n".join(map(str, results)))
    failed = sum(bool(result.problems) for result in results)
    if failed:
        raise InputError(
            f"{failed} of {len(results)} files failed; `nerfgen info FILE --command` prints the command that "
            "re-creates one, and `nerfgen verify FILE --renew` accepts what was changed on purpose"
        )
