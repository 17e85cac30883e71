"""Running the program: parameters that commands share, signals, and the way out with the documented exit code."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli.progress import Messages
from nerfgen.settings import MAX_SEED, MAX_WORKERS, SettingError, Settings, setting
from nerfgen.stopping import ending_signals, is_ending
from nerfgen.storage import Shard, parse_shard
from nerfgen.untrusted import printable

if TYPE_CHECKING:
    from nerfgen.image import ImageFolder
    from nerfgen.live import Listening

_DATA = typer.Argument(
    metavar="DATA",
    help="Folder of images, of any depth, or the URL of one in an object store, such as s3://bucket/photos, whose "
    "files are in ./photos.",
    show_default=False,
)
DataFolder = Annotated[str, _DATA]
OptionalDataFolder = Annotated[str | None, _DATA]
ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Model file, or the folder that holds model.h5.", show_default=False
    ),
]
# 0 has always stood for the default here.
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_WORKERS, help="Processes; one per core by default.", show_default=False),
]
Models = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of MediaPipe's model files (see `nerfgen models`); NERFGEN_MODELS or the cache by default.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of all random numbers.")]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit with 3 if some images could not be used.", rich_help_panel="Output"),
]
ClassName = Annotated[
    str,
    typer.Option(
        "--class",
        metavar="NAME|FILE",
        help="Object class: a name that `nerfgen classes` lists, or a TOML or JSON file that describes one.",
    ),
]


@dataclass(frozen=True)
class OutputFile(Settings, title="Output"):
    """The file that a command writes."""

    output: Path | None = setting(None, option=("-o", "--output"), help="File to write.")
    overwrite: bool = setting(False, help="Replace an existing output.")

    def __post_init__(self) -> None:
        super().__post_init__()
        # A pipe would block when its content is compared, and a device would be replaced by a file.
        if self.output and self.output.exists() and not (self.output.is_file() or self.output.is_dir()):
            raise SettingError(f"{self.output} is a pipe or a device; choose another `output`")


@dataclass(frozen=True)
class Scheduler(Settings, title="Cluster"):
    """Workers of Dask for a command."""

    scheduler: str | None = setting(
        None,
        metavar="ADDRESS|local",
        help="Let workers of Dask do the work: those of the scheduler at this address, or with local those of this "
        "machine. The output is the same. Who reaches a scheduler can run any program on its workers.",
    )


@dataclass(frozen=True)
class Cluster(Scheduler):
    """How the images of a command are divided among machines."""

    shard: Shard = setting(
        Shard(),
        parse=parse_shard,
        metavar="I/N",
        default_text="1/1",
        help="Work on the I-th of N equal parts of the images, as job I of an array of N; `nerfgen join` joins the "
        "outputs.",
    )


# Of commands that use one process without a scheduler.
ClusterWorkers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MAX_WORKERS,
        help="Processes of --scheduler local; one per core by default.",
        show_default=False,
        rich_help_panel=Cluster.title,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel="Output")
]


def file_option(help: str, metavar: str = "FILE", panel: str | None = None, *names: str) -> Any:
    """An option that names a file or folder."""
    return typer.Option(*names, metavar=metavar, help=help, show_default=False, rich_help_panel=panel)


# Of click, for Ctrl-C.
_INTERRUPTED = 130
# The error of a command line that typer can't read; typer exports only this subclass.
_UsageError: Any = typer.BadParameter.__base__


def examples(title: str, *lines: str) -> str:
    """Worked examples for the end of a command's help, a line each."""
    return f"[bold]{title}[/bold]\n\n" + "\n\n".join(f"[green]{line}[/green]" for line in lines)


def existing_folder(data: Path) -> Path:
    """``data`` if it is a folder.

    Raises:
        InputError: it is not.
    """
    from nerfgen.errors import InputError

    if not data.is_dir():
        raise InputError(f"{data} is not a folder; give the folder that holds the images")
    return data


def image_folder(data: str) -> ImageFolder:
    """The folder of images that DATA names.

    Raises:
        InputError: there is none, or the URL is of another kind than those of object stores.
        MissingDependencyError: the packages of the extra ``stores`` are not installed.
        StoreError: the store does not answer.
    """
    from nerfgen.image import ImageStore
    from nerfgen.image import image_folder as named

    folder = named(data)
    if not isinstance(folder, ImageStore):
        return existing_folder(folder)
    folder.require()
    return folder


def check_strict(strict: bool, unusable: int, total: int) -> None:
    """Raise :class:`UnusableImagesError` if ``strict`` and some images were not usable."""
    from nerfgen.errors import UnusableImagesError

    if strict and unusable:
        raise UnusableImagesError(
            f"{unusable} of {total} images could not be used; `nerfgen info FILE --status not-ok` lists them"
        )


def run(app: typer.Typer) -> None:
    """Run the command line; every way out ends in the documented exit code."""
    with ending_signals():
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # for names that the terminal's encoding lacks
        # Single precision is part of every recipe.
        os.environ.pop("JAX_ENABLE_X64", None)
        sys.exit(_run(app, debug="--debug" in sys.argv))


def _run(app: typer.Typer, *, debug: bool) -> int:
    from nerfgen.errors import NerfgenError

    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR)
    logging.getLogger("jax").setLevel(logging.ERROR)
    try:
        code = _call(app)
        _flush_stdout()
        return code
    except NerfgenError as error:
        if debug or is_ending():
            raise
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of stdout has read enough
        _discard_stdout()
        return 0
    except OSError as error:
        if debug or is_ending():
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 2)
    except MemoryError:
        if debug:
            raise
        return _fail("memory is exhausted; use fewer workers, smaller sizes, or close other programs", 2)
    except Exception as error:
        if debug or is_ending():
            raise
        if problem := _platform_problem():
            return _fail(problem, 2)
        return _fail(
            f"a fault in nerfgen: {type(error).__name__}: {error}; run again with --debug and report it", 1
        )


def _platform_problem() -> str:
    """What is wrong with the devices that JAX was told to use; empty where nothing is."""
    if "jax" not in sys.modules:
        return ""
    from nerfgen.optimize import platform_problem

    return platform_problem()


def _call(app: typer.Typer) -> int:
    """The exit code of typer; its usage errors are raised in one line, and help is printed."""
    from nerfgen.errors import InputError

    try:
        code = app(prog_name="nerfgen", standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer and rich exit with 1
            raise end.__context__ from None
        code = end.code
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr, flush=True)
            return error.exit_code
        raise InputError(_usage(error)) from None
    if code == _INTERRUPTED:  # Ctrl-C, without a word
        raise KeyboardInterrupt
    return int(code or 0)


@contextmanager
def libraries_silenced() -> Iterator[None]:
    """Within the block nothing reaches stdout: Gloo writes there, where only a command's result belongs."""
    stdout, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nothing)


def require_known_token(listening: Listening, messages: Messages) -> None:
    """Refuse a server whose random token nobody would see.

    Raises:
        SettingError: nothing is printed, and the token is random.
    """
    if messages.quiet and not messages.as_json and listening.takes_random_token:
        raise SettingError(
            "`quiet` hides the random token that requests have to carry; choose one by NERFGEN_TOKEN"
        )


def _usage(error: Any) -> str:
    """What is wrong with a command line, in the words of typer, and where its options are explained."""
    command = error.ctx.command_path if error.ctx else "nerfgen"
    what = error.format_message().replace(": Value error, ", ": ")
    what = re.sub(r"[.?]?\s+Did you mean (.*)\?$", r"; did you mean \1", what)
    what = re.sub(r" \(Possible options?: (.*)\)$", r"; did you mean \1", what)
    return f"{what[:1].lower()}{what[1:].rstrip('.')}; see `{command} --help`"


def _flush_stdout() -> None:
    """Write what is still in the buffer now: while the interpreter shuts down, a failure could not be reported."""
    if sys.__stdout__ is None:  # closed from the start
        return
    try:
        sys.__stdout__.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _discard_stdout()
        raise


def _discard_stdout() -> None:
    """Forget what could not be written, which would be tried again at exit."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


def _fail(message: str, code: int) -> int:
    if sys.stderr is not None:  # None: closed from the start
        print(f"nerfgen: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return code
