"""The memory of this machine: what a setting would take is compared with it before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

from nerfgen.settings import SettingError

_UNKNOWN = 1 << 62
# Limits of a container, in the two versions of Linux's control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def total_memory() -> int:
    """Bytes of memory that processes of this machine, or of this container, have; a huge number where unknown."""
    known = hasattr(os, "sysconf")
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else _UNKNOWN]
    for path in _LIMITS:
        try:
            sizes.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # another version, or no limit
            continue
    return min(size for size in sizes if size > 0)


def require_memory(needed: int, what: str, *, available: int | None = None) -> None:
    """Refuse what takes more memory than there is.

    Args:
        needed: bytes that it takes at least.
        what: the settings in backticks and what they ask for, for the message.
        available: bytes; by default :func:`total_memory`.

    Raises:
        SettingError: there is less.
    """
    available = total_memory() if available is None else available
    if needed > available:
        raise SettingError(
            f"{what} need {_shown(needed)} of memory, and this machine has {_shown(available)}; choose smaller values"
        )


def _shown(size: int) -> str:
    if size < 10 * 2**40:
        return f"{size / 2**30:,.1f} GiB"
    return f"{size / 2**40:,.0f} TiB"
