"""What every command shares: options, messages, progress, exit codes."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

DataFolder = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of images, of any depth.", show_default=False)
]
ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Model file, or the folder that holds model.h5.", show_default=False
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File to write.", show_default=False, rich_help_panel="Output"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel="Output")
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="No progress and no messages, only errors.", rich_help_panel="Output"),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel="Output")
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Exit with 3 when some images could not be used.", rich_help_panel="Output"
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Output")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
ClassName = Annotated[
    str,
    typer.Option(
        "--class",
        metavar="NAME|FILE",
        help="Object class: a name of `nerfgen classes`, or the TOML or JSON file that describes one.",
    ),
]

_INTERRUPTED = 130


class Terminated(BaseException):
    """SIGTERM, raised where it arrives so that ``finally`` blocks run."""


def examples(title: str, *lines: str) -> str:
    """Worked examples for the end of a command's help. ``\\b`` keeps their line breaks."""
    return f"[bold]{title}[/bold]\n\n" + "\n\n".join(f"[green]{line}[/green]" for line in lines)


class Reporter:
    """Progress and messages on stderr, results on stdout."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json

    def say(self, message: str) -> None:
        """One line for a person, on stderr."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)

    def kept(self, output: Path) -> None:
        """Say that an output which is there already is what the command would make."""
        self.say(f"{output} is complete and current; kept (--overwrite makes it anew)")

    def result(self, values: dict[str, Any], text: str) -> None:
        """The command's result: ``text`` for a person or ``values`` as JSON, on stdout."""
        if self.as_json:
            print(json.dumps(values, sort_keys=True), flush=True)
        elif not self.quiet:
            print(text, flush=True)

    @contextmanager
    def progress(self, label: str, unit: str = "images") -> Iterator[Any]:
        """A progress display as a :class:`nerfgen.parallel.Progress`; plain lines when stderr is no terminal."""
        if self.quiet:
            yield lambda done, total, note="": None
        elif sys.stderr.isatty():
            with _bar(label, unit) as update:
                yield update
        else:
            yield _plain_lines(label, unit)


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=1, note="", rate="")

        def update(done: int, total: int, note: str = "") -> None:
            rate = f"{done / max(time.monotonic() - start, 1e-6):,.1f}/s"
            bar.update(task, completed=done, total=total, note=note, rate=rate)

        yield update


def _plain_lines(label: str, unit: str) -> Any:
    start = time.monotonic()
    last = [start - 4.0]

    def update(done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - last[0] < 5.0:
            return
        last[0] = now
        elapsed = max(now - start, 1e-6)
        left = elapsed / max(done, 1) * (total - done)
        line = f"{label}: {done}/{total} {unit}, {done / elapsed:,.1f}/s, {left:.0f} s left"
        print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

    return update


def existing_folder(data: Path) -> Path:
    """``data`` if it is a folder.

    Raises:
        InputError: it is not.
    """
    from nerfgen.errors import InputError

    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the images")
    return data


def named_values(settings: list[str]) -> dict[str, str]:
    """What stands behind several ``--set NAME=VALUE``.

    Raises:
        InputError: one of them has no value.
    """
    from nerfgen.errors import InputError

    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--set {name}: give NAME=VALUE, such as --set samples=32")
    return {name: value for name, _, value in pairs}


def given_options(context: typer.Context) -> dict[str, str]:
    """What stands on the command line: how a user writes it, by its name in the command's function."""
    written = {}
    for parameter in context.command.params:
        if parameter.name and _is_given(context, parameter.name):
            is_option = parameter.opts[0].startswith("-")
            written[parameter.name] = (
                max(parameter.opts, key=len) if is_option else parameter.metavar or parameter.name.upper()
            )
    return written


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_strict(strict: bool, unusable: int, total: int) -> None:
    """Raise :class:`UnusableImagesError` if ``strict`` and some images were not usable."""
    from nerfgen.errors import UnusableImagesError

    if strict and unusable:
        raise UnusableImagesError(
            f"{unusable} of {total} images could not be used; `status` in the file says why"
        )


def run(app: typer.Typer) -> None:
    """Run the command line; every way out ends in the documented exit code."""
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(_run(app, debug))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _run(app: typer.Typer, debug: bool) -> int:
    from nerfgen.errors import NerfgenError

    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR)
    logging.getLogger("jax").setLevel(logging.ERROR)
    try:
        app()
        return 0
    except SystemExit as end:  # typer ends so, with its own usage errors already printed
        if end.code == _INTERRUPTED:  # and turns Ctrl-C into this without a word
            return _fail("interrupted; nothing half-written is left", _INTERRUPTED)
        return int(end.code or 0)
    except NerfgenError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing half-written is left", _INTERRUPTED)
    except Terminated:
        return _fail("terminated; nothing half-written is left", 143)
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        if debug:
            raise
        return _fail(
            f"a fault in nerfgen: {type(error).__name__}: {error}; run again with --debug and report it", 1
        )


def _fail(message: str, code: int) -> int:
    print(f"nerfgen: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _terminate(number: int, frame: types.FrameType | None) -> None:
    raise Terminated
