"""The metrics of a run: means between reports, JSON lines, and TensorBoard by choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.errors import InputError, NerfgenError
from nerfgen.model import Recipe
from nerfgen.optimize import Clock
from nerfgen.train.state import TERMS

# Columns of an entry: the step, means of the step's terms since the entry before, and PSNR.
COLUMNS = ("step", *TERMS, "psnr_db")
_RECENT = 10
# Abort when the loss exceeds this multiple of the first logged loss.
_DIVERGED = 2.0

Entry = tuple[float, ...]


class DivergedError(NerfgenError):
    """The loss is no longer a number, or far above its first value."""

    exit_code = 1


def mean_entry(
    totals: Float[np.ndarray, "terms"], step: int, entries: Sequence[Entry], *, may_recover: bool = False
) -> Entry:
    """The entry that follows others, from the sums of ``TERMS`` since the last of them.

    Args:
        may_recover: whether a divergence can be rolled back, and is no error here.

    Raises:
        DivergedError: the loss is no number, or exceeds the first one too far.
    """
    count = step - (entries[-1][0] if entries else 0)
    means = dict(zip(TERMS, np.asarray(totals, np.float64) / count, strict=True))
    first = entries[0][COLUMNS.index("loss")] if entries else means["loss"]
    finite = all(np.isfinite(value) for value in means.values())
    if not may_recover and (not finite or means["loss"] > _DIVERGED * first):
        raise DivergedError(
            f"training diverged before step {step}: the loss is {means['loss']:.3g}, at first {first:.3g}; "
            "lower the rates, for instance `learning_rate` 0.002 and `camera_learning_rate` 0; "
            "the last checkpoint, if any, is kept"
        )
    psnr = -10 * np.log10(max(means["rgb"] / 3, 1e-12))
    return (step, *means.values(), psnr)


def recent_means(entries: Sequence[Entry]) -> dict[str, float]:
    """Means of the last entries, by column."""
    return dict(zip(COLUMNS, (float(value) for value in np.mean(entries[-_RECENT:], axis=0)), strict=True))


def logged_values(
    entry: Entry, recipe: Recipe, clock: Clock, data_wait_fraction: float
) -> dict[str, float | int]:
    """An entry with rates and times, as the log's file has it."""
    values = {name: float(value) for name, value in zip(COLUMNS, entry, strict=True)}
    return values | {
        "step": int(entry[0]),
        "learning_rate": recipe.learning_rate * recipe.final_rate ** min(clock.fraction, 1.0),
        "rays_per_second": recipe.rays_per_batch * clock.steps_per_second,
        "data_wait_share": data_wait_fraction,
        "seconds": clock.seconds,
    }


class MetricsLog:
    """Entries of a run as JSON lines, and as TensorBoard scalars where a folder is given; a context manager.

    Args:
        path: file of JSON lines; entries of an earlier session are kept up to the step that the run resumes from.
        tensorboard: folder for event files.
        step: step that the run resumes from.

    Raises:
        InputError: TensorBoard's writer is not installed.
    """

    def __init__(self, path: Path, tensorboard: Path | None, step: int) -> None:
        kept = _lines_until(path, step) if step else []
        # Replaced as a whole: a run that is killed here keeps what it had.
        with storage.atomic_path(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")
        self._board = _board(tensorboard, step) if tensorboard else None

    def add(self, entry: storage.Record) -> None:
        """One entry: ``step`` and numbers by name."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if self._board:
            for name, value in entry.items():
                if name != "step":
                    self._board.add_scalar(name, value, entry["step"])

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def _lines_until(path: Path, step: int) -> list[str]:
    """Entries of an earlier session up to a step; a line that a killed run left unfinished ends them."""
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


def require_tensorboard() -> None:
    """Check that TensorBoard's writer is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "`tensorboard` needs the package tensorboardX: pip install 'nerfgen[tensorboard]'"
        ) from error


def _board(folder: Path, step: int) -> Any:
    require_tensorboard()
    from tensorboardX import SummaryWriter

    # Entries of an earlier session after the step are void.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
