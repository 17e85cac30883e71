"""The error of an image that can't be used."""

from __future__ import annotations

from pathlib import Path

from nerfgen.errors import InputError


class UnreadableImageError(InputError):
    """A file can't be used as an image.

    Attributes:
        reason: why, without the file's path.
        status: ``unreadable``, ``too_large``, ``bad_name``, ``outside`` or ``absent``, of ``nerfgen.storage.STATUSES``.
    """

    def __init__(self, reason: str, status: str = "unreadable", path: Path | None = None) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.reason, self.status = reason, status
