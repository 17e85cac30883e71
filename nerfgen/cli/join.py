"""``nerfgen join``: the shards of a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, other_statuses

if TYPE_CHECKING:
    from nerfgen.storage import ShardFile

EPILOG = runtime.examples(
    "Examples",
    "nerfgen join photos/landmarks.shard-*.h5",
    "nerfgen join photos/pixels.shard-*.h5",
    "nerfgen join work/*.h5 -o photos/masks.h5",
)


def join(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD", help="All files of a command with --shard.", show_default=False),
    ],
    *,
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Join the outputs of a command with --shard; writes the file of the command without it, byte for byte.

    The shards have to be all those of one run: the same images, inputs, options and version of nerfgen. The output goes
    beside the first shard, under the name that the command gives it. The shards may then be deleted. A dataset of
    `nerfgen sample` needs no joining: the folders of its shards are the dataset.
    """
    from collections import Counter

    from nerfgen import storage

    reporter = messages.reporter()
    found = storage.read_shards(shards)
    stage = storage.joined_stage(found, output.output or _default(found))
    kept = stage.is_current(overwrite=output.overwrite)
    if kept:
        reporter.kept(stage.output)
    else:
        with reporter.progress("joining") as progress:
            storage.write_joined(found, stage, progress)
    with storage.reading(stage.output, stage.schema) as file:
        status = storage.strings(file["status"])
    usable, statuses = int(storage.usable(status).sum()), dict(sorted(Counter(status).items()))
    reporter.result(
        {
            "shards": len(found),
            "images": len(status),
            "usable": usable,
            "statuses": statuses,
            "kept": kept,
            "output": str(stage.output),
        },
        f"{len(found)} shards, {len(status)} images, {usable} usable -> {stage.output}"
        + other_statuses(statuses),
    )
    runtime.check_strict(strict, len(status) - usable, len(status))


def _default(shards: list[ShardFile]) -> Path:
    """Where the command without --shard would have written.

    Raises:
        InputError: the shards have names of their own.
    """
    from nerfgen import storage
    from nerfgen.data import cache_name
    from nerfgen.errors import InputError

    path = shards[0].path
    if shards[0].stage.schema == "pixels/1":
        stage = storage.joined_stage(shards, path)
        return path.with_name(cache_name(stage.parameters, stage.inputs))
    whole = shards[0].shard.whole_path(path)
    if whole is None:
        raise InputError(f"{path} has a name of its own; name the file to write (`output`)")
    return whole
