"""Reading what others may have written: files, names, numbers and texts that nobody vouches for.

Every file that is not an output under way is opened through this module or through :func:`nerfgen.storage.reading`.
Two environment variables, which the program's options of the same names set, widen what is accepted.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import reprlib
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from nerfgen.errors import InputError

READ_LIMIT = "NERFGEN_READ_LIMIT"
FOLLOW_LINKS = "NERFGEN_FOLLOW_LINKS"
_DEFAULT_LIMIT_GIB = 1.0
# More digits than any identifier has; Python's integers would take them, floats would not.
_MAX_DIGITS = 40
# No file system has longer paths.
_MAX_NAME = 4096
_MAX_EXCERPT = 100
_QUOTED = reprlib.Repr()
_QUOTED.maxstring = _QUOTED.maxother = 80
# A JSON text takes at most one in this many bytes of the limit: its values take several times its size.
_JSON_SHARE = 4
# Bytes of memory that a list, an object, an element, a key and half a text take at most, by the sign that shows them.
_JSON_COSTS = {"[": 64, "{": 192, ",": 40, ":": 40, '"': 20}
_DRIVE = re.compile(r"[A-Za-z]:")


def read_limit() -> int:
    """Most bytes that one text or encoded image, or an array beyond its stored size, may take: 1 GiB by default.

    Raises:
        InputError: ``NERFGEN_READ_LIMIT`` is not a positive number of GiB.
    """
    text = os.environ.get(READ_LIMIT, "")
    try:
        limit = float(text) if text else _DEFAULT_LIMIT_GIB
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e6:
        raise InputError(f"{READ_LIMIT} is {printable(text)!r}; give a positive number of GiB")
    return int(limit * 2**30)


class _NamedFile(io.FileIO):
    """A file opened by number whose errors of reading name it, as those of opening do."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "rb")
        self._path = path

    def readinto(self, buffer: Any) -> int | None:
        with self._named():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._named():
            return super().readall()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = os.fspath(self._path)
            raise


def open_input(path: Path) -> BinaryIO:
    """A regular file, opened for reading. Errors of reading name it.

    Pipes and devices, which could block or never end, are refused, also behind links.

    Raises:
        InputError: the file is not a regular file.
        OSError: it does not exist or cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return io.BufferedReader(_NamedFile(handle, path))
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    raise InputError(f"{path} is not a regular file; replace it by a copy of its content")


def read_input(path: Path) -> bytes:
    """The content of a regular file within :func:`read_limit`; see :func:`open_input`.

    Raises:
        InputError: the file is no regular file, or too large.
        OSError: it does not exist or cannot be read.
    """
    limit = read_limit()
    with open_input(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise InputError(
                f"{path} has {size:,} bytes, more than the limit of {limit:,}; {READ_LIMIT}=GIB raises it"
            )
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise InputError(f"{path} grows while it is read; wait until it is complete")
    return content


def read_text_input(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: it does not exist, cannot be read, or is not UTF-8 text.
    """
    try:
        return read_input(path).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def parse_json(text: str, source: str | Path) -> Any:
    """A JSON text whose depth, numbers and memory are within bounds.

    Args:
        source: the file that holds the text, for messages.

    Raises:
        InputError: it is not JSON; names the line.
    """
    if (need := _memory_of_json(text)) > read_limit():
        raise InputError(
            f"{source}: its values need {need / 2**30:.1f} GiB of memory, more than the limit; "
            f"{READ_LIMIT}=GIB raises it"
        )
    try:
        return json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{source} line {error.lineno}: not valid JSON ({error.msg}, column {error.colno}); correct it"
        ) from error
    except RecursionError as error:
        raise InputError(f"{source}: JSON is nested too deeply; flatten or re-create it") from error
    except ValueError as error:
        raise InputError(f"{source}: not valid JSON ({error}); correct it") from error


def read_json_input(path: Path) -> Any:
    """The content of a JSON file; see :func:`read_text_input` and :func:`parse_json`."""
    limit = read_limit() // _JSON_SHARE
    if path.is_file() and (size := path.stat().st_size) > limit:  # before it is in memory
        raise InputError(
            f"{path} has {size:,} bytes, more than the limit of {limit:,}; {READ_LIMIT}=GIB raises it"
        )
    return parse_json(read_text_input(path), path)


def _memory_of_json(text: str) -> int:
    """About the most bytes that a JSON text and its values take in memory."""
    return 2 * len(text) + sum(cost * text.count(sign) for sign, cost in _JSON_COSTS.items())


def _whole_number(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


@contextlib.contextmanager
def content_of(path: Path, remedy: str) -> Iterator[None]:
    """Errors in the content of a file get its name and the next step, unless they have them.

    Fields in backticks lose them: they are the file's, no options of the command that reads it.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        if message.startswith(str(path)):
            raise
        step = "" if "; " in message else f"; {remedy}"
        raise InputError(f"{path}: {message.replace('`', '')}{step}") from error


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
    if not path.parts:
        reason = "is empty"
    elif len(name) > _MAX_NAME:
        reason = f"has {len(name):,} characters"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        reason = "has control characters"
    elif "\\" in name:
        reason = "has a backslash"
    elif path.is_absolute() or _DRIVE.match(name):
        reason = "is absolute"
    elif ".." in path.parts:
        reason = "leads out of its folder"
    if reason:
        raise InputError(
            f"{source}: the name {excerpt(name)} {reason}; rename it to a relative path with `/`"
        )
    return path.as_posix()


def is_inside(folder: Path, name: str) -> bool:
    """Whether a file of a folder lies in the folder when its links are followed, or links may lead out of it.

    ``NERFGEN_FOLLOW_LINKS=1`` permits them to. A folder may itself be a link.
    """
    if os.environ.get(FOLLOW_LINKS, "") not in ("", "0"):
        return True
    base = os.path.realpath(folder)
    found = os.path.realpath(os.path.join(base, name))
    return f"{found}{os.sep}".startswith(base.rstrip(os.sep) + os.sep)


def excerpt(value: Any) -> str:
    """A value of a file as it is quoted in a message: in one short line, whatever it is."""
    text = printable(_QUOTED.repr(value))
    return text if len(text) <= _MAX_EXCERPT else f"{text[: _MAX_EXCERPT - 3]}..."


def printable(text: str) -> str:
    """A text of a file without what a terminal would obey: control and formatting characters are escaped."""
    return "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs") else ascii(character)[1:-1]
        for character in text
    )
