"""What a person sees of a command: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nerfgen.cli.options import as_options
from nerfgen.settings import Settings, setting
from nerfgen.untrusted import printable

if TYPE_CHECKING:
    import rich.progress

    from nerfgen.parallel import Progress

_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Messages(Settings, title="Output"):
    """What a command prints."""

    quiet: bool = setting(
        False, option=("-q", "--quiet"), help="Print no progress and no messages, only errors."
    )
    as_json: bool = setting(False, option="--json", help="Print the result as one JSON object.")
    debug: bool = setting(False, help="Show the traceback of an error.")

    def reporter(self) -> Reporter:
        """What prints accordingly."""
        return Reporter(quiet=self.quiet, as_json=self.as_json)


class Reporter:
    """Progress and messages on stderr, results on stdout."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self._display: rich.progress.Progress | None = None
        self._tasks = 0

    def say(self, message: str) -> None:
        """One line for a person, on stderr."""
        if not self.quiet:
            _print_line(as_options(message), sys.stderr)

    def kept(self, output: Path) -> None:
        """Say that an existing output is what the command would make."""
        self.say(f"{output} is complete and current; kept (--overwrite re-creates it)")

    def result(self, values: dict[str, object], text: str) -> None:
        """The command's result: ``text`` for a person or ``values`` as JSON, on stdout."""
        if self.as_json:
            text = json.dumps(finite(values), sort_keys=True, allow_nan=False)
            # The one control character that JSON leaves as it is.
            _print_line(text.replace("\x7f", "\\u007f"), sys.stdout)
        elif not self.quiet:
            for line in text.split("\n"):
                _print_line(line, sys.stdout)

    @contextmanager
    def progress(self, label: str, unit: str = "images") -> Iterator[Progress]:
        """The progress of one task; plain lines when stderr is no terminal.

        Several may be open at a time: in a terminal they share one display, where a task appears with its first step.
        """
        if self.quiet:
            yield lambda done, total, note="": None
        # A display that is shown stands in place of stderr, and says of itself that it is no terminal (rich 14).
        elif self._display or (sys.stderr is not None and sys.stderr.isatty()):
            with self._bar(label, unit) as update:
                yield update
        else:
            yield _plain_lines(label, unit)

    @contextmanager
    def _bar(self, label: str, unit: str) -> Iterator[Progress]:
        display = self._display = self._display or _display()
        if not self._tasks:
            display.start()
        self._tasks += 1
        task = display.add_task(printable(label), total=1, visible=False, unit=unit, note="", rate="")
        start = time.monotonic()

        def update(done: int, total: int, note: str = "") -> None:
            rate = f"{done / max(time.monotonic() - start, 1e-6):,.1f}/s"
            display.update(task, completed=done, total=total, visible=True, note=printable(note), rate=rate)

        try:
            yield update
        finally:
            self._tasks -= 1
            if not self._tasks:
                display.stop()
                self._display = None


def _print_line(text: str, stream: TextIO | None) -> None:
    """Print a line, with what a terminal would obey escaped; nothing where the stream was closed from the start.

    Tabs are columns of ours.
    """
    if stream is not None:
        print("\t".join(map(printable, text.split("\t"))), file=stream, flush=True)


def finite(values: Any) -> Any:
    """Values for JSON, which has no NaN and no infinities: they become None."""
    if isinstance(values, dict):
        return {name: finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _display() -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        redirect_stdout=False,
    )


def _plain_lines(label: str, unit: str) -> Progress:
    start = time.monotonic()
    last = [start - _LINE_SECONDS + 1.0]

    def update(done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - last[0] < _LINE_SECONDS:
            return
        last[0] = now
        elapsed = max(now - start, 1e-6)
        left = elapsed / max(done, 1) * (total - done)
        line = f"{label}: {done}/{total} {unit}, {done / elapsed:,.1f}/s, {left:.0f} s left"
        _print_line(f"{line}, {note}" if note else line, sys.stderr)

    return update


def other_statuses(statuses: dict[str, int]) -> str:
    """The counts of all statuses but ``ok``, as the end of a line; empty if there are none."""
    others = [f"{count} {status}" for status, count in statuses.items() if status != "ok"]
    return f" ({', '.join(others)})" if others else ""
