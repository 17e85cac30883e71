"""What goes on in a run, for people and programs that watch it: JSON lines, and TensorBoard by choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nerfgen import artifact
from nerfgen.errors import InputError


class Record:
    """Entries of a run in a file of JSON lines, and as TensorBoard scalars where a folder is given; a context manager.

    Args:
        path: file of JSON lines; what is there from before is kept up to the step that the run goes on from.
        tensorboard: folder for event files.
        step: step that the run goes on from.

    Raises:
        InputError: TensorBoard's writer is not installed.
    """

    def __init__(self, path: Path, tensorboard: Path | None, step: int) -> None:
        kept = _lines_until(path, step) if step else []
        # Replaced as a whole: a run that is killed here keeps what it had.
        with artifact.atomic_path(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = _board(tensorboard, step) if tensorboard else None

    def add(self, entry: dict[str, Any]) -> None:
        """One entry: ``step`` and numbers by name."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if self._board:
            for name, value in entry.items():
                if name != "step":
                    self._board.add_scalar(name, value, entry["step"])

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def _lines_until(path: Path, step: int) -> list[str]:
    """Entries of an earlier run up to a step; a line that a killed run left unfinished ends them."""
    kept = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                if not line.endswith("\n") or json.loads(line)["step"] > step:
                    break
                kept.append(line)
    except FileNotFoundError:
        pass
    return kept


def check_tensorboard() -> None:
    """Whether TensorBoard's writer is there.

    Raises:
        InputError: it is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboardX: pip install 'nerfgen[tensorboard]'"
        ) from error


def _board(folder: Path, step: int) -> Any:
    check_tensorboard()
    from tensorboardX import SummaryWriter

    # What an earlier run wrote after the step is void.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
