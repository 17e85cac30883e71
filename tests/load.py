"""The stages on many small images: processor time and memory of each, in a process of its own.

    python tests/load.py FOLDER STAGE [WORKERS SCHEDULER]

Landmarks come from a double of the face network, which costs nothing; all else is real.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nerfgen.image import InputImage
from nerfgen.landmark.estimator import Detection, EstimatorSpec

STAGES = ("landmark", "fit-cameras", "segment", "framing")
_DISTINCT, _SIZE = 200, 32


class FaceDouble:
    """Finds a turned canonical face in any image: the view depends on the image's content."""

    names: tuple[str, ...]
    mesh_index: np.ndarray

    def __call__(self, image: InputImage) -> Detection:
        from nerfgen.geometry import turned_camera
        from nerfgen.objectclass import object_class

        pixels, _ = image.pixels()
        random = np.random.default_rng(int(pixels.astype(np.int64).sum()))
        face = object_class("face")
        yaw, pitch, roll = random.uniform(-25, 25, 3)
        pose = np.linalg.inv(
            turned_camera(np.array([yaw]), np.array([pitch]), np.array([4.6]), np.array([roll]))[0]
        )
        points = np.concatenate([face.canonical, face.mesh_canonical]) @ pose[:3, :3].T + pose[:3, 3]
        seen = np.column_stack(
            [_SIZE / 2 + 2 * _SIZE * points[:, :2] / points[:, 2:], _SIZE * points[:, 2] / 2]
        )
        seen[:, :2] += random.normal(0, 0.05, (len(seen), 2))
        count = len(face.canonical)
        mesh = seen[count:].astype(np.float32)
        return Detection("ok", seen[:count, :2].astype(np.float32), mesh, 0.9, 1)


def _face_mesh() -> None:
    from nerfgen.objectclass import object_class

    face = object_class("face")
    FaceDouble.names, FaceDouble.mesh_index = face.landmark_names, face.mesh_index.astype(np.int32)


_face_mesh()


def environment() -> dict[str, str]:
    """Variables of the process of a stage, whose workers import this module."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def make_images(folder: Path, count: int) -> None:
    """Small JPEGs in folders of a thousand; hard links of two hundred different ones."""
    random = np.random.default_rng(0)
    originals = folder.with_name(folder.name + "-originals")
    originals.mkdir(parents=True)
    for number in range(_DISTINCT):
        pixels = np.full((_SIZE, _SIZE, 3), 250, np.uint8)
        pixels[6:26, 8:24] = random.integers(0, 200, (20, 16, 3))
        Image.fromarray(pixels).save(originals / f"{number}.jpg", quality=90)
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        os.link(originals / f"{number % _DISTINCT}.jpg", place / f"{number:06d}.jpg")


def run_stage(
    data: Path, stage: str, workers: int | None = None, scheduler: str | None = None
) -> dict[str, Any]:
    """Run one stage in this process and measure it: seconds, memory of this process and of its workers together.

    Args:
        workers, scheduler: of landmarks.
    """
    start = time.monotonic()
    watched = _Workers()
    watched.start()
    if stage == "landmark":
        from nerfgen.landmark import stage as landmark

        spec = EstimatorSpec("load", "FaceDouble", "double")
        landmark.estimator_for = lambda *_, **__: spec  # type: ignore[assignment]
        landmark.landmark_folder(data, data / "landmarks.h5", workers=workers, scheduler=scheduler)
    elif stage == "real landmark":
        from nerfgen.landmark import landmark_folder

        landmark_folder(data, data / "landmarks.h5", workers=workers, scheduler=scheduler)
    elif stage == "fit-cameras":
        from nerfgen.camera import fit_folder

        fit_folder(data, data / "cameras.h5")
    elif stage == "segment":
        from nerfgen.mask import MaskSettings, segment_folder

        segment_folder(data, data / "masks.h5", settings=MaskSettings(method="color", size=32))
    else:
        from nerfgen.data.pixel_cache import open_pixel_cache

        open_pixel_cache(
            data,
            data / "cameras.h5",
            data / "masks.h5",
            16,
            object_class="face",
            inputs=[],
            path=data / "pixels.h5",
        ).close()
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": time.monotonic() - start,
        "processor": sum(each.ru_utime + each.ru_stime for each in (own, workers)),
        "memory": own.ru_maxrss * unit,
        "worker_memory": watched.peak,
    }


class _Workers(threading.Thread):
    """Looks now and then how much memory the processes take that this one started, directly or not."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, sum(_memory(process) for process in started(os.getpid())))
            time.sleep(0.5)


def started(process: int) -> Iterator[int]:
    """The processes that a process started, directly or not."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield int(child)
                yield from started(int(child))


def _memory(process: int) -> int:
    """Memory of a process, its part of what it shares with others; 0 where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


if __name__ == "__main__":
    folder, name, *further = sys.argv[1:]
    print(
        json.dumps(
            run_stage(
                Path(folder), name, *(kind(word) for kind, word in zip((int, str), further, strict=False))
            )
        )
    )
