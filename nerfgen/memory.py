"""The memory of this machine: what a setting needs of it, and how this process allocates and frees."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from nerfgen.settings import SettingError

_UNKNOWN = 1 << 62
# Limits of a container, in the two versions of Linux's control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


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


def keep_freed_memory() -> bool:
    """Make this process keep the large blocks that it frees and reuse them; False where the C library cannot.

    On a CPU a step allocates and frees tens of megabytes. glibc returns them to the system each time, and the next
    step waits while the same pages are cleared again.
    """
    return _set_allocator({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def share_free_memory() -> bool:
    """Make all threads of this process allocate from the same free memory; False where the C library cannot.

    glibc gives each thread free memory of its own. Where one thread allocates what another frees, as in a server, holes
    remain in all of it, and the process grows for hours.
    """
    return _set_allocator({_M_ARENA_MAX: 1})


def return_free_memory() -> bool:
    """Return all free memory of this process to the system; False where the C library cannot.

    By itself, glibc returns what lies above the last block in use only.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    return trim is not None and bool(trim(0))


def _set_allocator(parameters: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and all(mallopt(name, value) for name, value in parameters.items())
