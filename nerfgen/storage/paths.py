"""Names read from files, checked before they become paths."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path, PurePosixPath

from nerfgen.errors import InputError

_DRIVE = re.compile(r"[A-Za-z]:")


def safe_relative_path(name: str, source: str | Path) -> str:
    """A name as a relative path with ``/``, which stays inside the folder that it is joined to on every system.

    Args:
        name: the name, such as ``a/b.png`` or ``./a/b.png``.
        source: the file that holds the name, for the message.

    Raises:
        InputError: the name is empty or absolute, has ``..``, a drive letter, a backslash or a control character, or
            is not Unicode.
    """
    path = PurePosixPath(name)
    reason = ""
    if not name:
        reason = "is empty"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        reason = "has control characters"
    elif "\\" in name:
        reason = "has a backslash"
    elif path.is_absolute() or _DRIVE.match(name):
        reason = "is absolute"
    elif ".." in path.parts:
        reason = "leads out of its folder"
    if reason:
        raise InputError(f"{source}: the name {name!a} {reason}; rename it to a relative path with `/`")
    return path.as_posix()
