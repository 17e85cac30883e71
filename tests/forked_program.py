"""The program in processes forked from one that has imported everything: a command costs milliseconds to start.

Each command is the real one: it gets its arguments, folder, environment and streams like a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

SECONDS, MEMORY = 20.0, 2 << 30
# Compilers map more than they use; this stops what would take the machine's memory.
_DATA_LIMIT = 4 << 30
# A busy machine gives a process this fraction of the time of day at least.
_PATIENCE = 6
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux.
_CAPABILITIES_VERSION, _ANY_FILE = 0x20080522, (1 << 1) | (1 << 2)
_LIBRARIES = (
    "PIL.Image",
    "PIL.ImageCms",
    "concurrent.futures.process",
    "flax.linen",
    "h5py",
    "imageio",
    "jax.numpy",
    "optax",
    "rich.console",
    "rich.progress",
    "scipy.spatial",
    "scipy.stats",
    "skimage.measure",
    "typer.rich_utils",
)


@dataclass(frozen=True)
class Finished:
    """How a command ended: exit code (negative for a signal), output, seconds of the processor, peak memory in bytes,
    and whether processes of it were still running."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int
    left_processes: bool


class ForkedProgram:
    """The program, ready to run commands; a context that ends its process.

    Args:
        scratch: folder for what commands print.
        preload: further modules to import once.
        finalizes: whether the interpreter of a command takes itself apart at the end, as it does in use; that takes as
            long as a short command.
        limited: whether commands get one core, little memory, little time of the processor, and no rights of an
            administrator.
        environment: further variables of the process that all others are forked from, and of the commands.
    """

    def __init__(
        self,
        scratch: Path,
        preload: Sequence[str] = (),
        *,
        finalizes: bool = True,
        limited: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._scratch, self._finalizes, self._limited = scratch, finalizes, limited
        scratch.mkdir(parents=True, exist_ok=True)
        spec = importlib.util.find_spec("nerfgen")
        assert spec is not None
        assert spec.origin is not None
        self._own = {
            **({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"} if limited else {}),
            # The package that the tests import, whether installed or not.
            "PYTHONPATH": os.pathsep.join([os.fspath(Path(spec.origin).parents[1]), *sys.path]),
            **(environment or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | self._own,
        )

    def __enter__(self) -> ForkedProgram:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Finished:
        """Run ``nerfgen ARGUMENTS`` in a folder.

        Args:
            environment: variables of the command, in addition to those of this process.
            seconds: limit of CPU time for limited commands, of elapsed time for others; the command is then killed.
        """
        assert self._process.stdin
        assert self._process.stdout
        out, err = self._scratch / "stdout", self._scratch / "stderr"
        job = {
            "arguments": list(arguments),
            "folder": os.fspath(folder),
            "environment": {**os.environ, **self._own, **(environment or {})},
            "limited": self._limited,
            "seconds": seconds,
            "finalizes": self._finalizes,
            "stdout": os.fspath(out),
            "stderr": os.fspath(err),
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Finished(out=_text(out), err=_text(err), **answer)


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="backslashreplace")


def _serve() -> Mapping[str, Any]:
    """Fork a process for each job on stdin and answer on stdout; a forked process returns from here to run its job."""
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _become(job)
            return job
        patience = _PATIENCE if job["limited"] else 1
        print(json.dumps(_watch(child, patience * job["seconds"])), flush=True)
    os._exit(0)


def _become(job: Mapping[str, Any]) -> None:
    """Make this process the one that a shell would start for the job."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for name in os.environ.keys() - job["environment"].keys():
        del os.environ[name]
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv = ["nerfgen", *job["arguments"]]
    if job["limited"]:
        _limit(job["seconds"])


def _limit(seconds: float) -> None:
    """Take from this process what a machine may lack: cores, memory, time, the rights of an administrator."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (_DATA_LIMIT, _DATA_LIMIT))
    limit = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    if hasattr(os, "geteuid") and os.geteuid() == 0 and sys.platform == "linux":
        _respect_permissions()
    if hasattr(os, "sched_setaffinity"):
        # One core, so that images are processed here rather than in processes that import everything again.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _leave(code: int) -> NoReturn:
    """End as the interpreter does, but leave everything in memory as it is."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _respect_permissions() -> None:
    """Give up the right of an administrator to read and write whatever the permissions of files are."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    # Effective, permitted and inheritable rights, twice.
    rights = (ctypes.c_uint32 * 6)()
    if libc.capget(header, rights) == 0:
        for place in range(3):
            rights[place] &= ~_ANY_FILE
        libc.capset(header, rights)


def _watch(child: int, seconds: float) -> dict[str, Any]:
    start = time.monotonic()
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - start > seconds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            break
        time.sleep(0.002)
    left = False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
        left = True
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * unit,
        "left_processes": left,
    }


def _import_all(further: Sequence[str]) -> None:
    """Import what commands import; nothing here may start threads, which a forked process would lack."""
    import pkgutil

    import nerfgen
    from nerfgen.errors import MissingDependencyError

    for name in (*_LIBRARIES, *further):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(nerfgen.__path__, "nerfgen."):
        if module.name not in ("nerfgen.__main__", "nerfgen.bench.torch_step"):
            with contextlib.suppress(
                MissingDependencyError
            ):  # of an optional package, or another release of it
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # the collector of a forked process would copy all of it


if __name__ == "__main__":
    _import_all(sys.argv[1:])
    job = _serve()
    from nerfgen.cli.main import main

    try:
        main()
    except SystemExit as end:
        if job["finalizes"]:
            raise
        _leave(int(end.code or 0))
