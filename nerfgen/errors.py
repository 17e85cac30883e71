"""The errors that a user can cause, each with the exit code that a shell script sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class NerfgenError(Exception):
    """A failure in one line: the cause, the file and the next step.

    Library callers catch this one type; the command line prints it and exits with
    ``exit_code``.
    """

    exit_code = 2


class InputError(NerfgenError):
    """An input is missing, unreadable or of the wrong kind."""


class OutputExistsError(NerfgenError):
    """An output exists that came from other inputs or parameters."""


class WriteError(NerfgenError, OSError):
    """An output cannot be written, such as on a full disk; names the output, not the temporary file beside it."""

    def __init__(self, message: str, cause: OSError | None = None, filename: str = "") -> None:
        super().__init__(message)
        if cause is not None:
            self.errno, self.strerror, self.filename = cause.errno, cause.strerror, filename

    def __str__(self) -> str:
        return str(self.args[0])


class MissingDependencyError(NerfgenError):
    """A package or system library that this command needs is not installed."""


@contextlib.contextmanager
def extra_imports(user: str, extra: str) -> Iterator[None]:
    """Imports of packages that an extra brings, within a ``with`` statement.

    Args:
        user: who needs them, such as ``the viewer``.

    Raises:
        MissingDependencyError: one is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"{user} needs packages that are not installed ({error}); install them: pip install 'nerfgen[{extra}]'"
        ) from error


class UnusableImagesError(NerfgenError):
    """The command finished, but some images could not be used (only with ``--strict``)."""

    exit_code = 3
