"""The journal of a per-image stage: rows as they are finished, so that a killed run goes on where it stopped."""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from nerfgen.storage.atomic import writing

# What a stage found in one image: arrays, and numbers, strings and lists (JSON).
Row = Mapping[str, Any]
Digest = tuple[int, str]

# Each record: lengths of its text and of its arrays, and the checksum of both.
_HEADER = struct.Struct("<IQI")


class Journal:
    """Finished rows beside an output; a context that removes them when the output is complete.

    The file is a sequence of records with checksums; what a kill left of the last record is cut off. Rows are valid for
    one identity of the stage: a journal of another identity is discarded. A second process that writes the same output
    finds the journal locked and works without one.

    Args:
        path: of the journal, ``.OUTPUT.journal``; errors of writing it name ``OUTPUT`` beside it.
        identity: of the stage that the rows belong to.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity
        self._output = path.with_name(path.name.removeprefix(".").removesuffix(".journal"))
        self._places: dict[str, tuple[int, Digest]] = {}
        self._stream: io.FileIO | None = None
        self._computed: Iterator[tuple[Row, Digest]] = iter(())

    def __enter__(self) -> Journal:
        with writing(self._output, self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            stream = io.FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return self
        except OSError:  # a file system without locks
            pass
        self._stream = stream
        end = self._read(stream)
        if not end:
            end = self._write({"identity": self._identity}, b"", 0)
        with writing(self._output, self._path):
            stream.truncate(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Workers end here, not when the traceback of an error is forgotten.
        if isinstance(self._computed, Generator):
            self._computed.close()
        if self._stream is not None:
            if error is None or not self._places:
                self._path.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None

    def __len__(self) -> int:
        return len(self._places)

    def rows(
        self,
        names: Sequence[str],
        digest: Callable[[Sequence[str]], Sequence[Digest]],
        compute: Callable[[Sequence[int]], Iterator[tuple[Row, Digest]]],
    ) -> Iterator[tuple[Row, Digest]]:
        """Row and digest of every image, in order: recorded ones of unchanged images, and computed ones.

        Args:
            digest: gives size and SHA-256 of images by name.
            compute: gives rows and digests of images by their indices, in order; they are recorded.
        """
        recorded = [name for name in names if name in self._places]
        current = dict(zip(recorded, digest(recorded), strict=True))
        finished = {name for name in recorded if self._places[name][1] == current[name]}
        computed = self._computed = compute(
            [index for index, name in enumerate(names) if name not in finished]
        )
        for name in names:
            if name in finished:
                place, known = self._places[name]
                yield self._row(place), known
            else:
                row, known = next(computed)
                self._record(name, row, known)
                yield row, known
        next(computed, None)  # its end: the last progress, and workers that stop

    def _record(self, name: str, row: Row, digest: Digest) -> None:
        if self._stream is None:
            return
        arrays = {key: value for key, value in row.items() if isinstance(value, np.ndarray)}
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        values = {key: value for key, value in row.items() if key not in arrays}
        place = self._stream.seek(0, os.SEEK_END)
        self._write({"name": name, "digest": digest, "values": values}, packed.getvalue(), place)
        self._places[name] = (place, digest)

    def _write(self, text: Mapping[str, Any], arrays: bytes, place: int) -> int:
        """Write a record and give the position of its end."""
        assert self._stream is not None
        encoded = json.dumps(text, default=lambda number: number.item()).encode()
        body = encoded + arrays
        record = _HEADER.pack(len(encoded), len(arrays), zlib.crc32(body)) + body
        written = 0
        with writing(self._output, self._path):
            self._stream.seek(place)
            while written < len(record):
                written += self._stream.write(record[written:])
        return place + len(record)

    def _read(self, stream: io.FileIO) -> int:
        """Index the records and give the position of their end; 0 if the journal is empty or of another identity."""
        place = 0
        while record := self._text(place):
            text, _, end = record
            if place == 0 and text.get("identity") != self._identity:
                return 0
            if place:
                num_bytes, sha256 = text["digest"]
                self._places[text["name"]] = (place, (num_bytes, sha256))
            place = end
        return place

    def _text(self, place: int) -> tuple[dict[str, Any], bytes, int] | None:
        """Text, arrays and end of the record at a position; None if there is no complete one."""
        assert self._stream is not None
        self._stream.seek(place)
        header = self._stream.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        text_size, array_size, checksum = _HEADER.unpack(header)
        if text_size + array_size > os.fstat(self._stream.fileno()).st_size:
            return None
        body = self._stream.read(text_size + array_size)
        if len(body) < text_size + array_size or zlib.crc32(body) != checksum:
            return None
        return json.loads(body[:text_size]), body[text_size:], place + _HEADER.size + len(body)

    def _row(self, place: int) -> Row:
        record = self._text(place)
        assert record is not None
        text, packed, _ = record
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return {**text["values"], **arrays}
