"""The landmark stage against the bare network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nerfgen.bench.timing import Say, median_in_turns
from nerfgen.errors import MissingDependencyError
from nerfgen.image import decode, find_images
from nerfgen.landmark import landmark_folder
from nerfgen.parallel import core_count

# More tell nothing new of the bare network, and all would have to be held in memory.
_BARE_IMAGES = 300


def measure_landmark(data: Path, *, images: int, rounds: int, seconds: float, say: Say) -> dict[str, object]:
    """Images a second of a loop over decoded images with MediaPipe's own class, in one process, and of the stage.

    The stage is all of it: finding, hashing and decoding the images, landmarks and the file, on all cores. The
    ratio is to as many bare loops as there are cores.

    Raises:
        MissingDependencyError: MediaPipe is not installed.
    """
    try:
        from mediapipe.python.solutions.face_mesh import FaceMesh
    except ImportError as error:
        raise MissingDependencyError(f"the bare network is MediaPipe's: {error}") from error
    paths = find_images(data)[:images]
    sample = [decode(data / path) for path in paths[:_BARE_IMAGES]]
    with (
        tempfile.TemporaryDirectory() as scratch,
        FaceMesh(static_image_mode=True, refine_landmarks=True) as network,
    ):
        folder = Path(scratch) / "images"
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink((data / path).resolve(), folder / path)

        def bare() -> None:
            for image in sample:
                network.process(image)

        def stage() -> None:
            landmark_folder(folder, Path(scratch) / "landmarks.h5", overwrite=True)

        network.process(sample[0])
        taken = median_in_turns({"bare": bare, "stage": stage}, rounds=rounds, seconds=seconds, say=say)
    rates = {"bare": len(sample) / taken["bare"], "stage": len(paths) / taken["stage"]}
    return {
        "images": len(paths),
        "cores": core_count(),
        "bare_images_per_second": rates["bare"],
        "stage_images_per_second": rates["stage"],
        "ratio_stage_over_bare_on_all_cores": rates["stage"] / (core_count() * rates["bare"]),
    }
