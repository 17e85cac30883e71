"""Folders of images in object stores, read over fsspec one object at a time; nothing is copied to disk."""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from nerfgen.errors import InputError, NerfgenError, extra_imports
from nerfgen.image.unreadable import UnreadableImageError
from nerfgen.untrusted import safe_relative_path

_PROTOCOLS = ("s3", "gs")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# Objects whose ends are asked for at a time.
_BATCH = 4096
# Formats whose comments are at the start of a file.
_COMMENT_FIRST = (".jpg", ".jpeg", ".png")
# Stores state the time of a change in whole seconds.
_CLOCK_NS = 1_000_000_000


class StoreError(NerfgenError):
    """An object store does not answer, or refuses everything."""


class StoredObject(NamedTuple):
    """What the listing of a store says of an object.

    Attributes:
        size: bytes.
        modified: when it may have changed last, nanoseconds since 1970.
    """

    size: int
    modified: int


@dataclass(frozen=True)
class ImageStore:
    """A folder of images in an object store, where functions take the path of a local folder too.

    A value that may be sent to another process: each connects to the store on its own.

    Attributes:
        url: such as ``s3://bucket/photos``, without ``/`` at its end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def path(self) -> str:
        """The URL without its protocol: the bucket and the folder in it."""
        return self.url.partition("://")[2]

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.url).name

    @property
    def parent(self) -> ImageStore:
        """The folder that holds this one, or the object that the URL means."""
        return ImageStore(self.url.rpartition("/")[0])

    def require(self) -> None:
        """Check that the store answers and has the folder.

        Raises:
            InputError: there is no such folder.
            MissingDependencyError: the packages of the extra ``stores`` are not installed.
            StoreError: the store does not answer, or refuses to list the folder.
        """
        if not self.is_folder():
            raise InputError(f"{self.url} is an object, not a folder; give the folder that holds the images")

    def is_folder(self) -> bool:
        """Whether the URL means a folder, not an object.

        Raises:
            InputError: it means neither.
            MissingDependencyError, StoreError: as :meth:`require`.
        """
        with self._reporting():
            try:
                return bool(self._files.info(self.path)["type"] == "directory")
            except FileNotFoundError:
                pass
        raise InputError(f"{self.url} does not exist or is empty; check the bucket and the folder")

    def objects(self) -> dict[str, StoredObject]:
        """All objects below the folder, by their names relative to it.

        Raises:
            StoreError: the store does not answer, or refuses to list the folder.
        """
        found = {}
        with self._reporting():
            for path, info in self._files.find(self.path, detail=True).items():
                if path.startswith(f"{self.path}/"):
                    modified = info.get("LastModified") or info["mtime"]
                    found[path[len(self.path) + 1 :]] = StoredObject(
                        info["size"], int(modified.timestamp()) * _CLOCK_NS + _CLOCK_NS - 1
                    )
        return found

    def image(self, name: str) -> StoredImage:
        """The image of a row, whoever wrote the name.

        Raises:
            UnreadableImageError: the name is unsafe (``bad_name``).
        """
        try:
            safe_relative_path(name, "")
        except InputError as error:
            raise UnreadableImageError(str(error).removeprefix(": "), "bad_name") from error
        if not _is_plain(name):
            raise UnreadableImageError("the name has empty folders; rename the object", "bad_name")
        return StoredImage(self, name)

    def ends(self, sizes: Mapping[str, int], length: int) -> Iterator[bytes]:
        """The first and last bytes of objects, as far as a comment may be there; nothing of one that can't be read.

        Args:
            sizes: of the objects, by name.
            length: of either end.

        Raises:
            StoreError: the store does not answer.
        """
        names = list(sizes)
        for first in range(0, len(names), _BATCH):
            ranges = [
                (name, *end)
                for name in names[first : first + _BATCH]
                for end in _ends(name, sizes[name], length)
            ]
            paths = [f"{self.path}/{name}" for name, _, _ in ranges]
            found = dict.fromkeys(names[first : first + _BATCH], b"")
            with self._reporting():
                read = self._files.cat_ranges(
                    paths, [start for _, start, _ in ranges], [end for *_, end in ranges]
                )
                for (name, *_), part in zip(ranges, read, strict=True):
                    if isinstance(part, bytes):
                        found[name] += part
                    elif not isinstance(part, FileNotFoundError | PermissionError):
                        raise part
            yield from found.values()

    def open(self, name: str) -> BinaryIO:
        """An object, opened for reading; what is read is of one state of it.

        Raises:
            UnreadableImageError: there is no such object, or the store refuses it.
            StoreError: the store does not answer, or refuses everything. Reading raises it too.
        """
        with self._reporting(name):
            file = self._files.open(f"{self.path}/{name}", "rb")
            if file.details["type"] != "file":
                raise FileNotFoundError
        return io.BufferedReader(_ObjectReader(self, name, file))

    @property
    def _files(self) -> Any:
        return _file_system(self.url.partition("://")[0], os.getpid())

    @contextmanager
    def _reporting(self, name: str = "") -> Iterator[None]:
        """Errors of fsspec and of the stores' libraries, which retried what may pass, as those of this program.

        What the store says of one object becomes the status of its image. Everything else ends the command: a network
        that fails, or credentials that expire, say nothing of the images.

        Args:
            name: of the object that is read; empty for the folder.

        Raises:
            UnreadableImageError, StoreError: see :meth:`open`.
        """
        try:
            yield
        except NerfgenError:
            raise
        except Exception as error:
            if name and isinstance(error, FileNotFoundError):
                raise UnreadableImageError("the file does not exist", "absent") from error
            if name and isinstance(error, PermissionError) and self._answers():
                raise UnreadableImageError(_words(error)) from error
            raise StoreError(
                f"{self.url}: {_words(error)}; check the network, the endpoint, the credentials and the URL, then run "
                "the command again"
            ) from error

    def _answers(self) -> bool:
        """Whether the store still answers, and lists the folder."""
        try:
            return self.is_folder()
        except NerfgenError:
            return False


ImageFolder: TypeAlias = Path | ImageStore


class StoredImage(NamedTuple):
    """An object in a store, where functions take the path of a local file too."""

    store: ImageStore
    name: str

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""
        return PurePosixPath(self.name).suffix

    def open(self) -> BinaryIO:
        """See :meth:`ImageStore.open`."""
        return self.store.open(self.name)


class _ObjectReader(io.RawIOBase):
    """An open object whose errors of reading are reported as those of opening."""

    def __init__(self, store: ImageStore, name: str, file: Any) -> None:
        self._store, self._name, self._file = store, name, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with self._store._reporting(self._name):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def image_folder(text: str) -> ImageFolder:
    """The folder of images that a word of the user means: a path, or a URL of an object store.

    Only what the user gives becomes a folder here, never a text of a file.

    Raises:
        InputError: a URL of another kind, or one without a bucket.
    """
    url = _URL.fullmatch(text)
    if not url:
        return Path(text)
    protocol, place = url[1].lower(), url[2].strip("/")
    known = " and ".join(f"{each}://" for each in _PROTOCOLS)
    if protocol in ("http", "https"):
        raise InputError(f"{text}: web servers do not list their files; give a folder, or a URL of {known}")
    if protocol not in _PROTOCOLS:
        raise InputError(f"{text}: images are read from folders and from URLs of {known}")
    if not _is_plain(place):
        raise InputError(f"{text}: give a bucket and a folder in it, such as {protocol}://bucket/photos")
    return ImageStore(f"{protocol}://{place}")


def local_folder(data: ImageFolder) -> Path:
    """Where the files are that commands write for a folder of images: in the folder itself.

    For one in an object store, in a folder of its name in the working directory.
    """
    return Path(data.name) if isinstance(data, ImageStore) else data


def _is_plain(name: str) -> bool:
    """Whether a name is safe as it is spelled: a store tells ``a//b`` from ``a/b``."""
    try:
        return safe_relative_path(name, "") == name
    except InputError:
        return False


@functools.cache
def _file_system(protocol: str, process: int) -> Any:
    """The connection of a process to the stores of a protocol; connections do not outlive a fork.

    Nothing that was listed is kept: objects may change meanwhile.
    """
    # It would print the traceback of every error that is reported here.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    with extra_imports("an object store", "stores"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Google's libraries about Python's version
        import fsspec

        return fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)


def _ends(name: str, size: int, length: int) -> list[tuple[int, int]]:
    """The ranges of bytes that hold the ends of a file."""
    if size <= 2 * length:
        return [(0, size)] if size else []
    tail = [] if name.lower().endswith(_COMMENT_FIRST) else [(size - length, size)]
    return [(0, length), *tail]


def _words(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
