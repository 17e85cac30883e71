"""The landmark stage against the bare network."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nerfgen.bench.timing import Say, median_in_turns
from nerfgen.errors import MissingDependencyError
from nerfgen.image import InputImage, find_images
from nerfgen.landmark import landmark_folder
from nerfgen.parallel import core_count
from nerfgen.pretrained import FACE_LANDMARKER, TASKS, find_model, mediapipe_interface

# More tell nothing new of the bare network, and all would have to be held in memory.
_BARE_IMAGES = 300


def measure_landmark(data: Path, *, images: int, rounds: int, seconds: float, say: Say) -> dict[str, object]:
    """Images a second of a loop over decoded images with MediaPipe's network, in one process, and of the stage.

    The stage is all of it: finding, hashing and decoding the images, landmarks and the file, on all cores. The
    ratio is to as many bare loops as there are cores.

    Raises:
        MissingDependencyError: MediaPipe is not installed.
    """
    network = _bare_network()
    paths = find_images(data)[:images]
    sample = [InputImage(path, data).pixels()[0] for path in paths[:_BARE_IMAGES]]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / path, folder / path)

        def bare() -> None:
            for image in sample:
                network(image)

        def stage() -> None:
            landmark_folder(folder, Path(scratch) / "landmarks.h5", overwrite=True)

        network(sample[0])
        taken = median_in_turns({"bare": bare, "stage": stage}, rounds=rounds, seconds=seconds, say=say)
    rates = {"bare": len(sample) / taken["bare"], "stage": len(paths) / taken["stage"]}
    return {
        "images": len(paths),
        "cores": core_count(),
        "bare_images_per_second": rates["bare"],
        "stage_images_per_second": rates["stage"],
        "ratio_stage_over_bare_on_all_cores": rates["stage"] / (core_count() * rates["bare"]),
    }


def _bare_network() -> Callable[[UInt8[np.ndarray, "height width 3"]], object]:
    """The function of one image that finds a face and its landmarks, by the MediaPipe that is installed."""
    if mediapipe_interface() == TASKS:
        from nerfgen.pretrained.tasks import Task

        model = find_model(FACE_LANDMARKER.name).read_bytes()
        return Task("face_landmarker", "FaceLandmarker", model, num_faces=1).run
    try:
        from mediapipe.python.solutions.face_mesh import FaceMesh
    except ImportError as error:
        raise MissingDependencyError(f"the bare network is MediaPipe's: {error}") from error
    return FaceMesh(static_image_mode=True, refine_landmarks=True).process
