"""``nerfgen models``: the model files of MediaPipe on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages

if TYPE_CHECKING:
    from nerfgen.pretrained import ModelState

EPILOG = runtime.examples(
    "Examples",
    "nerfgen models",
    "nerfgen models --fetch",
    "nerfgen models --fetch --folder models   (to be copied to a machine without a network)",
    "nerfgen models --verify --json",
)


def models(
    *,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download what is missing or damaged.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit with 2 if a file is missing or damaged.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="Folder to look into, or to download to; NERFGEN_MODELS or the cache by default.",
            show_default=False,
        ),
    ] = None,
    messages: Messages,
) -> None:
    """List, download and verify the model files that MediaPipe 0.10.30 and later need for faces and person masks.

    Other commands download them at first use. Files are verified by their SHA-256, and a download resumes where an
    earlier one stopped. MediaPipe 0.10.21 carries its models and needs no files.
    """
    from nerfgen.errors import InputError, MissingDependencyError
    from nerfgen.pretrained import TASKS, fetch_model, mediapipe_interface, model_states

    reporter = messages.reporter()
    states = model_states(folder)
    if fetch:
        for state in states:
            if state.state != "ok":
                with reporter.progress(state.model.name, "bytes") as progress:
                    fetch_model(state.model, state.path.parent, progress=progress)
        states = model_states(folder)
    try:
        needed = mediapipe_interface() == TASKS
    except MissingDependencyError:
        needed = True
    note = "" if needed else "\nThe installed MediaPipe carries its models and needs none of these files."
    reporter.result(
        {"needed": needed, "models": [_values(state) for state in states]},
        "\n".join(map(_line, states)) + note,
    )
    unusable = [state for state in states if state.state != "ok"]
    if verify and unusable:
        what = ", ".join(f"{state.model.name} is {state.state}" for state in unusable)
        raise InputError(f"{what}; `nerfgen models --fetch` downloads what is missing or damaged")


def _values(state: ModelState) -> dict[str, object]:
    model = state.model
    return {
        "name": model.name,
        "state": state.state,
        "path": str(state.path),
        "size": model.size,
        "sha256": model.sha256,
        "url": model.url,
        "license": model.license,
        "purpose": model.purpose,
    }


def _line(state: ModelState) -> str:
    model = state.model
    return (
        f"{model.name:<24} {model.size / 1e6:>4.1f} MB  {state.state:<7}  {state.path}  "
        f"({model.purpose}, {model.license})"
    )
