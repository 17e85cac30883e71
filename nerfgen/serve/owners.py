"""What the service keeps of its users: changes of the networks, in memory, each under a token of its owner."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from nerfgen.errors import NerfgenError
from nerfgen.model import Objects
from nerfgen.serve.wire import bytes_of

_TOKEN_BYTES = 24


class UnknownOwnerError(NerfgenError):
    """No personalisation is kept under a token."""


@dataclass(frozen=True)
class Personal:
    """A personalisation.

    Attributes:
        model: name of its model.
        digest: SHA-256 of the model's file.
        delta: change of the networks; empty if there is none.
        objects: fitted images; None if only the change is kept.
    """

    model: str
    digest: str
    delta: dict[str, Any]
    objects: Objects | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return bytes_of(self.delta) + (self.objects.latents.nbytes if self.objects else 0)


class Owners:
    """Personalisations by their owners' tokens; the least recently used are dropped.

    A token is held by its owner alone: here it is known by its hash.

    Args:
        count, size: how many are kept, and their bytes.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._kept: OrderedDict[str, Personal] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes that all take."""
        return sum(each.nbytes for each in list(self._kept.values()))

    def keep(self, personal: Personal) -> str:
        """Keep a personalisation; its new token."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._lock:
            self._kept[key_of(token)] = personal
            used = self.nbytes
            while len(self._kept) > 1 and (len(self._kept) > self._count or used > self._size):
                used -= self._kept.popitem(last=False)[1].nbytes
        return token

    def get(self, token: str) -> Personal:
        """The personalisation of an owner.

        Raises:
            UnknownOwnerError: there is none.
        """
        with self._lock:
            key = key_of(token)
            if key not in self._kept:
                raise UnknownOwnerError("nothing is kept for this owner, or no longer; personalise again")
            self._kept.move_to_end(key)
            return self._kept[key]

    def forget(self, token: str) -> None:
        """Remove what is kept for an owner.

        Raises:
            UnknownOwnerError: there is nothing.
        """
        with self._lock:
            if self._kept.pop(key_of(token), None) is None:
                raise UnknownOwnerError("nothing is kept for this owner, or no longer")


def key_of(token: str) -> str:
    """What an owner is known by."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
