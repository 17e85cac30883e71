"""Throughput of `nerfgen landmark` against the bare network.

Measures, in turns, images a second of (a) a single-process loop over decoded images with
MediaPipe's Face Mesh and (b) the whole stage (finding, hashing, decoding, landmarks, HDF5) on
all cores, and prints (b) as a part of cores times (a).

    python benchmarks/landmark.py FOLDER [--images 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from nerfgen.landmark import landmark_folder
from nerfgen.parallel import core_count
from nerfgen.photo import decode, find_images


def bare_rate(images: list[np.ndarray]) -> float:
    """Images a second of MediaPipe's own class in this process."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    with FaceMesh(static_image_mode=True, refine_landmarks=True) as network:
        network.process(images[0])
        start = time.perf_counter()
        for image in images:
            network.process(image)
        return len(images) / (time.perf_counter() - start)


def stage_rate(folder: Path, output: Path) -> float:
    """Images a second of the stage, start-up included."""
    start = time.perf_counter()
    summary = landmark_folder(folder, output, overwrite=True)
    return summary["images"] / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of photographs, one face each")
    parser.add_argument("--images", type=int, default=1000, help="how many of them to use")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both measurements")
    options = parser.parse_args()
    paths = find_images(options.folder)[: options.images]
    sample = [decode(options.folder / path) for path in paths[:300]]
    bare, stage = [], []
    with tempfile.TemporaryDirectory() as scratch:
        subset = Path(scratch) / "images"
        for path in paths:
            (subset / path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink((options.folder / path).resolve(), subset / path)
        for turn in range(options.rounds):
            bare.append(bare_rate(sample))
            stage.append(stage_rate(subset, Path(scratch) / "landmarks.h5"))
            ratio = stage[-1] / (core_count() * bare[-1])
            print(f"turn {turn + 1}: bare loop {bare[-1]:.1f}/s, stage {stage[-1]:.1f}/s, ratio {ratio:.3f}")
    ratio = float(np.median(stage) / (core_count() * np.median(bare)))
    print(f"median ratio of the stage to {core_count()} bare loops: {ratio:.3f}")


if __name__ == "__main__":
    main()
