"""Model files that others have published: found or downloaded, and verified before every use.

A model is searched for in this order: the path that the caller gives, the folder of ``NERFGEN_MODELS``, the user's
cache, the publisher's server. Downloads go into the cache. They resume where an earlier one stopped, and a file gets
its name only after its SHA-256 has been verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nerfgen.compilation_cache import user_cache
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.parallel import Progress, silent

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# A folder that holds model files, for machines without a network.
FOLDER_VARIABLE = "NERFGEN_MODELS"
# A mirror: the file NAME is downloaded from $NERFGEN_MODELS_URL/NAME.
MIRROR_VARIABLE = "NERFGEN_MODELS_URL"
# Seconds without an answer after which a download is given up.
TIMEOUT = 15.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ModelFile:
    """A model file as its publisher offers it.

    Attributes:
        name: file name, the same in every folder.
        url: where the publisher offers it.
        sha256: SHA-256 of its content, hexadecimal.
        size: bytes.
        license: of the model.
        purpose: what nerfgen does with it.
    """

    name: str
    url: str
    sha256: str
    size: int
    license: str
    purpose: str


_PUBLISHER = "https://storage.googleapis.com/mediapipe-models"
FACE_LANDMARKER = ModelFile(
    name="face_landmarker.task",
    url=f"{_PUBLISHER}/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    size=3_758_596,
    license="Apache-2.0",
    purpose="face landmarks",
)
SELFIE_SEGMENTER = ModelFile(
    name="selfie_segmenter.tflite",
    url=f"{_PUBLISHER}/image_segmenter/selfie_segmenter/float16/1/selfie_segmenter.tflite",
    sha256="191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
    size=249_537,
    license="Apache-2.0",
    purpose="person masks",
)
MODEL_FILES = {model.name: model for model in (FACE_LANDMARKER, SELFIE_SEGMENTER)}


@dataclass(frozen=True)
class ModelState:
    """Where a model file is on this machine.

    Attributes:
        model: the file that is looked for.
        path: where it is, or where a download would put it.
        state: ``ok``, ``damaged`` or ``missing``.
    """

    model: ModelFile
    path: Path
    state: str


def find_model(
    name: str,
    given: Path | None = None,
    *,
    notify: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Path:
    """Path of a verified model file, which is downloaded where the machine does not have it.

    May take as long as a download. A parent of worker processes calls it once and gives them the path.

    Args:
        name: one of ``MODEL_FILES``.
        given: the file, or a folder that holds it; nothing else is searched.
        notify: called with one line before a download starts.
        progress: bytes downloaded, of all.

    Raises:
        InputError: ``given`` or ``NERFGEN_MODELS`` names something that does not exist or is not the model.
        MissingDependencyError: the file is not on this machine and cannot be downloaded.
    """
    model = known_model(name)
    if given is not None:
        path = given / model.name if given.is_dir() else given
        verify(model, path)
        return path
    folder = _folder_of_user()
    if folder is not None and (folder / model.name).is_file():
        verify(model, folder / model.name)
        return folder / model.name
    return fetch_model(model, notify=notify, progress=progress)


def known_model(name: str) -> ModelFile:
    """The model file of that name.

    Raises:
        InputError: nerfgen uses no such file.
    """
    if name not in MODEL_FILES:
        raise InputError(f"there is no model file {name}; choose from {', '.join(MODEL_FILES)}")
    return MODEL_FILES[name]


def model_states(folder: Path | None = None) -> list[ModelState]:
    """Where each known model file is, and whether it is intact. Downloads nothing.

    Args:
        folder: the only folder to look into; by default that of ``NERFGEN_MODELS``, then the cache.

    Raises:
        InputError: ``NERFGEN_MODELS`` names no folder.
    """
    states = []
    folders = [folder] if folder else [place for place in (_folder_of_user(), cache_folder()) if place]
    for model in MODEL_FILES.values():
        places = [place / model.name for place in folders]
        path = next((place for place in places if place.is_file()), places[-1])
        state = "missing" if not path.is_file() else "damaged" if _fault(model, path) else "ok"
        states.append(ModelState(model, path, state))
    return states


def verify(model: ModelFile, path: Path) -> None:
    """Check that a file is the model.

    Raises:
        InputError: it does not exist, cannot be read, or has another content.
    """
    if fault := _fault(model, path):
        raise InputError(f"{path} {fault}; `nerfgen models --fetch` downloads it")


def fetch_model(
    model: ModelFile,
    folder: Path | None = None,
    *,
    notify: Callable[[str], None] = lambda line: None,
    progress: Progress = silent,
) -> Path:
    """Download a model file unless the folder has it already; returns its verified path.

    Processes that fetch the same file at once wait for the first of them.

    Args:
        folder: where the file goes; :func:`cache_folder` if None.
        notify: called with one line before a download starts.
        progress: bytes downloaded, of all.

    Raises:
        MissingDependencyError: it cannot be downloaded or written, or the server has another file.
    """
    folder = folder or cache_folder()
    path = folder / model.name
    if path.is_file() and _fault(model, path) is None:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{model.name}.lock") as alone:
            # Another process may have fetched it in the meantime.
            if path.is_file() and _fault(model, path) is None:
                return path
            part = folder / (f"{model.name}.part" if alone else f"{model.name}.{os.getpid()}.part")
            notify(f"downloading {model.name} ({model.size / 1e6:.1f} MB, {model.purpose}) to {folder}")
            try:
                _download_verified(model, part, progress)
            except BaseException:
                if not alone:  # nobody would resume it
                    part.unlink(missing_ok=True)
                raise
            os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise MissingDependencyError(
            f"{model.name} ({model.purpose}) is not on this machine and {url_of(model)} could not be downloaded to "
            f"{folder} ({_reason(error)}); run `nerfgen models --fetch --folder DIR` where there is a network, copy "
            f"DIR here and set {FOLDER_VARIABLE}=DIR"
        ) from error
    return path


def url_of(model: ModelFile) -> str:
    """Where a model file is downloaded: from its publisher, or from the mirror of ``NERFGEN_MODELS_URL``."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{model.name}" if mirror else model.url


def cache_folder() -> Path:
    """The folder of downloaded models, in the cache of this user; it need not exist."""
    chosen = os.environ.get("XDG_CACHE_HOME")  # on every system
    cache = Path(chosen) if chosen else user_cache(os.environ)
    return cache / "nerfgen" / "models"


def _folder_of_user() -> Path | None:
    """The folder of ``NERFGEN_MODELS``."""
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(
            f"{FOLDER_VARIABLE}={named} is not a folder; name one that holds model files, or unset it"
        )
    return Path(named)


def _fault(model: ModelFile, path: Path) -> str | None:
    """What makes a file unusable as the model; None if it is the model."""
    try:
        size = path.stat().st_size
        if size != model.size:
            return f"is not {model.name}: it has {size} bytes in place of {model.size}"
        digest = _sha256(path)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if digest != model.sha256:
        return f"is not {model.name}: its SHA-256 begins with {digest[:8]} in place of {model.sha256[:8]}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock among processes; yields False where the file system has no locks."""
    with path.open("ab") as file:
        alone = _lock(file.fileno())
        # The operating system releases the lock with the file, even if the process is killed.
        yield alone


if sys.platform == "win32":

    def _lock(file: int) -> bool:
        while True:
            with contextlib.suppress(OSError):  # it gives up after ten seconds
                msvcrt.locking(file, msvcrt.LK_LOCK, 1)
                return True

else:

    def _lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            return False
        return True


def _download_verified(model: ModelFile, part: Path, progress: Progress) -> None:
    """Complete ``part`` and verify it; a file of another content is deleted.

    A damaged file may owe its damage to the part that was resumed, so it is downloaded once more from its first byte.
    """
    for resumed in (_size(part) > 0, False):
        _download(model, part, progress)
        digest = _sha256(part)
        if digest == model.sha256:
            return
        part.unlink()
        if not resumed:
            break
    raise OSError(
        f"the SHA-256 of the downloaded file begins with {digest[:8]} in place of {model.sha256[:8]}"
    )


def _download(model: ModelFile, part: Path, progress: Progress) -> None:
    """Extend ``part`` to the model's size. A lost connection is renewed as long as each one brings something."""
    if _size(part) > model.size:
        part.unlink()
    while (before := _size(part)) < model.size:
        failure: Exception = ConnectionError("the server closed the connection early")
        try:
            _transfer(model, part, before, progress)
        except (OSError, http.client.HTTPException) as error:
            failure = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
        if _size(part) > model.size:
            part.unlink()
            raise OSError(f"the server's file is longer than {model.size} bytes")
        if isinstance(failure, urllib.error.HTTPError) and failure.code == 416:
            part.unlink()
            raise OSError(f"the server's file is shorter than {model.size} bytes")
        if _size(part) <= before:
            raise failure


def _transfer(model: ModelFile, part: Path, start: int, progress: Progress) -> None:
    """Append what one connection brings to the ``start`` bytes that are there."""
    request = urllib.request.Request(url_of(model), headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        # A server that does not know ranges sends the whole file.
        resumes = start > 0 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-")
        with part.open("ab" if resumes else "wb") as file:
            done = start if resumes else 0
            while done <= model.size and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                done += len(chunk)
                progress(min(done, model.size), model.size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _reason(error: Exception) -> str:
    """Why something failed, in a few words and one line."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = getattr(error, "reason", error)
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__
