"""The division of a run into shards: the images that one job of an array works on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfgen.settings import MAX_COUNT, SettingError, parse_count


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``of`` equal parts, counted from 1; by default all there is."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is."""
        return self.of == 1

    def rows(self, count: int) -> range:
        """Its rows of ``count`` in all: consecutive ones; none if there are more shards than rows."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)

    def path(self, whole: Path) -> Path:
        """The file of this shard beside that of the whole run, such as ``landmarks.shard-003-of-100.h5``."""
        return whole if self.is_whole else whole.with_name(f"{whole.stem}{self._mark}{whole.suffix}")

    def whole_path(self, path: Path) -> Path | None:
        """The file of the whole run that :meth:`path` was given; None for a file with another name."""
        stem = path.stem.removesuffix(self._mark)
        return None if stem == path.stem else path.with_name(f"{stem}{path.suffix}")

    @property
    def _mark(self) -> str:
        return f".shard-{self.number:0{len(str(self.of))}d}-of-{self.of}"

    def parameters(self, listed: Iterable[str]) -> dict[str, Any]:
        """What the provenance of a shard records beside that of the whole run.

        Args:
            listed: names of the images of all shards. Shards of other lists do not belong together.
        """
        if self.is_whole:
            return {}
        digest = hashlib.sha256()
        for name in listed:
            digest.update(f"{name}\n".encode())
        return {"shard": {"number": self.number, "of": self.of, "listed": digest.hexdigest()}}


def parse_shard(name: str, text: str) -> Shard:
    """A shard from words such as ``2/8``.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    try:
        number, of = (parse_count(word) for word in text.split("/"))
    except ValueError:
        number, of = 0, 0
    if not 1 <= number <= of <= MAX_COUNT:
        raise SettingError(f"`{name}` {text}: give I/N such as 2/8, the second of eight shards")
    return Shard(number, of)
