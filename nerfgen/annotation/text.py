"""Text files of other people."""

from __future__ import annotations

from pathlib import Path

from nerfgen.errors import InputError


def text_of(path: Path) -> str:
    """The text of a file of annotations.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
