"""JAX's compilation cache on disk: what one process has compiled, the next one loads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "NERFGEN_COMPILATION_CACHE"
OFF = "off"
# JAX's own bound needs another package. Enough for some hundred programs.
MAX_BYTES = 1 << 30


def use_compilation_cache(place: str | None = None) -> Path | None:
    """Keep compiled programs of this process, and of those it starts, on disk. Before JAX is imported.

    A folder that JAX is told already (``JAX_COMPILATION_CACHE_DIR``) stays. Where nothing can be written, programs are
    compiled in every process, as without a cache.

    Args:
        place: folder, or ``off``; by default that of the environment variable ``NERFGEN_COMPILATION_CACHE``, else the
            user's cache folder.

    Returns:
        The folder that is used; None if there is none.
    """
    chosen = place or os.environ.get(VARIABLE)
    if not chosen and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    chosen = chosen or str(default_folder(os.environ))
    os.environ[VARIABLE] = chosen  # for the processes that this one starts
    if chosen == OFF:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        return None
    folder = Path(chosen).expanduser().absolute() / machine_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            return None
        remove_damaged(folder)
        remove_oldest(folder, MAX_BYTES)
    except OSError:
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    # Small programs are many, and each costs a tenth of a second.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # An entry that another process is writing at this moment is compiled here too.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    return folder


def user_cache(environment: Mapping[str, str]) -> Path:
    """The folder in which the system keeps the caches of this user."""
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def default_folder(environment: Mapping[str, str]) -> Path:
    """The user's folder for compiled programs."""
    return user_cache(environment) / "nerfgen" / "compiled"


def machine_key() -> str:
    """A name for the processor and its instructions; the release of JAX is part of the name of every entry.

    A home folder may be shared by machines with other instructions, on which a program of this one would crash, and by
    environments in which JAX compresses entries otherwise.
    """
    parts = [platform.system(), platform.machine(), _cpu_features(), _decompressor()[0]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def remove_damaged(folder: Path) -> None:
    """Remove the entries that end too early: JAX does not replace what a killed process or a full disk left.

    Only entries that were written since the last call are read: the folder's file ``checked`` has its time.
    """
    mark = folder / "checked"
    last = mark.stat().st_mtime_ns if mark.exists() else 0
    mark.touch()  # before reading: what is written meanwhile is read the next time
    for path in folder.glob("*-cache"):
        if path.stat().st_mtime_ns >= last and not _is_whole(path):
            path.unlink(missing_ok=True)


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Remove the entries that were longest unused until the rest is within the limit."""
    entries = []
    for entry in os.scandir(folder):
        if entry.is_file(follow_symlinks=False):
            stat = entry.stat(follow_symlinks=False)
            entries.append((max(stat.st_atime, stat.st_mtime), stat.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= max_bytes:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


def _is_whole(path: Path) -> bool:
    """Whether an entry can be decompressed to its end."""
    _, decompressor = _decompressor()
    with path.open("rb") as entry:
        try:
            while block := entry.read(1 << 16):
                decompressor.decompress(block)
        except Exception:  # each library has its own
            return False
    return bool(decompressor.eof)


def _decompressor() -> tuple[str, Any]:
    """The compression that JAX chooses in this environment, and a new decompressor of it."""
    with contextlib.suppress(ImportError):
        from compression import zstd

        return "zstd", zstd.ZstdDecompressor()
    with contextlib.suppress(ImportError):
        import zstandard

        return "zstd", zstandard.ZstdDecompressor().decompressobj()
    return "zlib", zlib.decompressobj()


def _cpu_features() -> str:
    """The model and the instructions of the processor, where the system lists them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
            found: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in wanted:
                    found.setdefault(name.strip(), value.strip())
                if not line.strip() and found:  # the first processor stands for all
                    break
    except OSError:
        return ""
    return repr(sorted(found.items()))
