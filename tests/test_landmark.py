"""Face landmarks: photographs of any size and framing, whole folders, the command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.errors import InputError, MissingDependencyError, OutputExistsError
from nerfgen.image import InputImage, decode
from nerfgen.landmark import Detection, estimate_landmarks, estimator_for, landmark_folder, map_landmarks
from nerfgen.objectclass import object_class
from nerfgen.pretrained import (
    TASKS,
    installation_warnings,
    mediapipe_interface,
    missing_library,
    remedy,
    silenced,
)

ROOT = Path(__file__).parents[1]
FACES = Path(os.environ.get("NERFGEN_DATA", ROOT / "../shared/data")) / "faces"
SIDE = 128

needs_faces = pytest.mark.skipif(
    not FACES.is_dir(), reason=f"no photographs of faces in {FACES} (NERFGEN_DATA)"
)


@cache
def estimator():
    return estimator_for(object_class("face")).prepared().build()


@cache
def face(number: int) -> np.ndarray:
    with open(FACES / "index.csv") as stream:
        frontal = [row["file"] for row in csv.DictReader(stream) if abs(float(row["yaw_deg"])) < 10]
    return decode(FACES / frontal[number])


@cache
def original(number: int) -> Detection:
    return estimator()(InputImage(face(number)))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def gradient(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    return (
        (np.stack([x * 200 / width, y * 180 / height, 60 + 0 * x], -1) + noise).clip(0, 255).astype(np.uint8)
    )


def pasted(canvas: np.ndarray, image: np.ndarray, x: int, y: int) -> np.ndarray:
    canvas = canvas.copy()
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest distance of a point from where it should be, in distances between the eyes."""
    return float(np.linalg.norm(found - expected, axis=1).max() / np.linalg.norm(expected[0] - expected[1]))


@needs_faces
@pytest.mark.mediapipe
def test_a_portrait() -> None:
    detection = original(0)
    assert (detection.status, detection.num_objects) == ("ok", 1)
    assert 0.5 < detection.score <= 1
    assert detection.mesh.shape == (478, 3)
    points = dict(zip(estimator().names, detection.landmarks, strict=True))
    assert points["eye_left"][0] < points["nose_tip"][0] < points["eye_right"][0]
    assert points["mouth_left"][0] < points["mouth_right"][0]
    assert points["eye_left"][1] < points["nose_tip"][1] < points["mouth_left"][1]
    # The nose is nearer than the cheeks' outer edges.
    assert detection.mesh[4, 2] < min(detection.mesh[234, 2], detection.mesh[454, 2])


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("place", [(0, 0), (1600 - SIDE, 1000 - SIDE), (700, 500)])
def test_a_small_face_in_a_large_photograph(number: int, place: tuple[int, int]) -> None:
    detection = estimator()(InputImage(pasted(gradient(1000, 1600), face(number), *place)))
    assert detection.status == "ok"
    assert error(detection.landmarks, original(number).landmarks + place) < 0.1


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize("side", [64, 900, 2500])
def test_any_size(side: int) -> None:
    detection = estimator()(InputImage(resized(face(0), side)))
    assert detection.status == "ok"
    assert error(detection.landmarks, original(0).landmarks * side / SIDE) < 0.1


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize("shape", [(128, 500), (500, 128), (300, 128)])
def test_any_shape(shape: tuple[int, int]) -> None:
    place = (shape[1] - SIDE, shape[0] - SIDE)
    detection = estimator()(InputImage(pasted(gradient(*shape), face(1), *place)))
    assert detection.status == "ok"
    assert error(detection.landmarks, original(1).landmarks + place) < 0.1


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("number", range(3))
def test_turned_photographs(number: int, turns: int) -> None:
    x, y = original(number).landmarks.T
    expected = {1: (y, SIDE - x), 2: (SIDE - x, SIDE - y), 3: (SIDE - y, x)}[turns]
    detection = estimator()(InputImage(np.ascontiguousarray(np.rot90(face(number), turns))))
    assert detection.status == "ok"
    # The networks of MediaPipe Tasks depend more on where a face lies in the image.
    limit = 0.2 if mediapipe_interface() == TASKS else 0.15
    assert error(detection.landmarks, np.stack(expected, axis=-1)) < limit


@needs_faces
@pytest.mark.mediapipe
def test_a_tightly_cropped_face() -> None:
    mesh = original(0).mesh[:, :2]
    left, top = np.floor(mesh.min(axis=0)).astype(int)
    right, bottom = np.ceil(mesh.max(axis=0)).astype(int)
    tight = np.ascontiguousarray(face(0)[top:bottom, left:right])
    detection = estimator()(InputImage(tight))
    assert detection.status == "ok"
    assert error(detection.landmarks, original(0).landmarks - (left, top)) < 0.15


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize(("large", "small"), [(0, 1), (1, 2)])
def test_of_two_faces_the_larger(large: int, small: int) -> None:
    photo = pasted(gradient(700, 1000), resized(face(small), 220), 60, 80)
    photo = pasted(photo, resized(face(large), 400), 520, 240)
    detection = estimator()(InputImage(photo))
    assert (detection.status, detection.num_objects) == ("ok_largest", 2)
    assert error(detection.landmarks, original(large).landmarks * 400 / SIDE + (520, 240)) < 0.1


@needs_faces
@pytest.mark.mediapipe
def test_a_face_of_a_few_pixels_is_too_small() -> None:
    assert estimator()(InputImage(resized(face(0), 18))).status in ("too_small", "no_object")


@pytest.mark.mediapipe
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (16, 16), (400, 600)])
def test_nothing_there(shape: tuple[int, int]) -> None:
    detection = estimator()(InputImage(gradient(*shape)))
    assert (detection.status, detection.num_objects, detection.score) == ("no_object", 0, 0)
    assert np.isnan(detection.landmarks).all()
    assert np.isnan(detection.mesh).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two faces at different depths, an empty photograph and a damaged file."""
    data = tmp_path / "photos"
    (data / "more").mkdir(parents=True)
    Image.fromarray(face(0)).save(data / "b.png")
    Image.fromarray(face(1)).save(data / "more" / "a.png")
    Image.fromarray(gradient(60, 90)).save(data / "c.png")
    (data / "d.jpg").write_bytes((FACES / "f00000.jpg").read_bytes()[:900])
    return data


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder(folder: Path, workers: int) -> None:
    output = folder / "landmarks.h5"
    seen: list[int] = []
    summary = landmark_folder(
        folder, output, workers=workers, progress=lambda done, total, note="": seen.append(done)
    )
    assert summary == {
        "images": 4,
        "detected": 2,
        "detected_fraction": 0.5,
        "statuses": {"no_object": 1, "ok": 2, "unreadable": 1},
        "kept": False,
    }
    assert seen == [1, 2, 3, 4]
    with storage.reading(output, "landmarks/1") as file:
        assert storage.strings(file["image"]) == ["b.png", "c.png", "d.jpg", "more/a.png"]
        assert storage.strings(file["status"]) == ["ok", "no_object", "unreadable", "ok"]
        assert storage.strings(file["landmark_names"]) == [
            "eye_left",
            "eye_right",
            "nose_tip",
            "mouth_left",
            "mouth_right",
        ]
        assert file["image_size"][:].tolist() == [[128, 128], [90, 60], [0, 0], [128, 128]]
        assert file["num_objects"][:].tolist() == [1, 0, 0, 1]
        assert file["mesh_index"][:].tolist() == list(range(478))
        np.testing.assert_allclose(file["landmarks"][0], original(0).landmarks, atol=1e-4)
        np.testing.assert_allclose(file["mesh"][3], original(1).mesh, atol=1e-4)
        assert np.isnan(file["landmarks"][1:3]).all()
        assert np.isnan(file["mesh"][1:3]).all()
        size, digest = storage.file_digest(folder / "d.jpg")
        assert file["image_bytes"][2] == size == 900
        assert storage.strings(file["image_sha256"])[2] == digest
        assert json.loads(file.attrs["inputs"])[0]["count"] == 4


@needs_faces
@pytest.mark.mediapipe
def test_output_is_kept_until_something_changes(folder: Path) -> None:
    output = folder / "landmarks.h5"
    first = landmark_folder(folder, output, workers=1)
    content = output.read_bytes()
    assert landmark_folder(folder, output, workers=1) == {**first, "kept": True}
    assert not landmark_folder(folder, output, workers=2, overwrite=True)["kept"]
    assert output.read_bytes() == content
    Image.fromarray(face(2)).save(folder / "c.png")
    with pytest.raises(OutputExistsError, match="overwrite"):
        landmark_folder(folder, output)


@needs_faces
@pytest.mark.mediapipe
def test_a_stopped_run_goes_on_and_its_output_is_the_same(folder: Path, tmp_path: Path) -> None:
    output, whole = folder / "landmarks.h5", tmp_path / "whole.h5"
    landmark_folder(folder, whole, workers=1)

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landmark_folder(folder, output, workers=1, progress=stop)
    assert not output.exists()
    counts: list[int] = []
    landmark_folder(folder, output, workers=1, progress=lambda done, total, note="": counts.append(total))
    assert counts == [2, 2]
    assert output.read_bytes() == whole.read_bytes()


@needs_faces
@pytest.mark.mediapipe
def test_images_in_memory_give_the_numbers_of_the_folder(folder: Path) -> None:
    landmark_folder(folder, folder / "landmarks.h5", workers=1)
    with storage.reading(folder / "landmarks.h5", "landmarks/1") as file:
        names, statuses = storage.strings(file["image"]), storage.strings(file["status"])
        stored = {key: file[key][:] for key in ("landmarks", "mesh", "score", "num_objects", "image_size")}
    spec = estimator_for(object_class("face"))
    images = [InputImage(folder / name) for name in names]
    for workers in (1, 2):
        found = list(map_landmarks(images, spec, workers=workers))
        assert [detection.status for detection in found] == statuses
        for key, values in stored.items():
            np.testing.assert_array_equal(
                np.stack([getattr(each, key) for each in found]).astype(values.dtype), values
            )
    # Pixels instead of a file: the same landmarks.
    pixels = decode(folder / names[statuses.index("ok")])
    one = estimate_landmarks(InputImage(pixels), estimator())
    np.testing.assert_array_equal(one.mesh, stored["mesh"][statuses.index("ok")])


def test_classes_without_an_estimator() -> None:
    with pytest.raises(InputError, match="no landmark estimator for class cars"):
        estimator_for(object_class("cars"))


def test_missing_libraries_are_named() -> None:
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    assert missing_library(ImportError(message)) == "libGL.so.1"
    assert remedy("libGL.so.1") == "apt-get install libgl1"
    assert remedy("libgthread-2.0.so.0") == "apt-get install libglib2.0-0"
    assert "libodd.so.3" in remedy("libodd.so.3")
    assert missing_library(ImportError("No module named x")) is None


def test_a_complete_installation_needs_no_warning() -> None:
    pytest.importorskip("cv2")
    assert installation_warnings() == []


def without(folder: Path, module: str, message: str) -> dict[str, str]:
    """An environment in which importing a module fails."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            raise ImportError({message!r}, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def nerfgen(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nerfgen", *map(str, arguments)]
    environment = env or {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


@needs_faces
@pytest.mark.mediapipe
def test_command(folder: Path, tmp_path: Path) -> None:
    output, picture = tmp_path / "out" / "landmarks.h5", tmp_path / "found.png"
    done = nerfgen("landmark", folder, "-o", output, "--picture", picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"4 images, 2 with landmarks (50.00%) -> {output} (1 no_object, 1 unreadable)\n"
    assert not [
        word for word in ("W0000", "INFO", "WARNING", "Feedback", "Deprecat") if word in done.stderr
    ], done.stderr
    assert decode(picture).shape[0] > 200
    kept = nerfgen("landmark", folder, "-o", output, "--json", "--strict", "--quiet")
    assert kept.returncode == 3
    values = json.loads(kept.stdout)
    assert (values["images"], values["detected"], values["kept"]) == (4, 2, True)
    assert values["statuses"] == {"no_object": 1, "ok": 2, "unreadable": 1}
    assert kept.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("absent",), "not a folder"), ((".",), "no images"), ((".", "--class", "cars"), "cars")],
)
def test_command_with_unusable_input(arguments: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    failed = nerfgen("landmark", tmp_path / arguments[0], *arguments[1:])
    assert failed.returncode == 2
    assert reason in failed.stderr
    assert failed.stderr.count("\n") == 1


@needs_faces
@pytest.mark.mediapipe
def test_command_without_graphics_libraries(folder: Path, tmp_path: Path) -> None:
    message = "libGL.so.1: cannot open shared object file: No such file or directory"
    environment = without(tmp_path / "site", "cv2", message)
    done = nerfgen("landmark", folder, "--workers", 2, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 images, 2 with landmarks")
    warnings = [line for line in done.stderr.splitlines() if "libGL" in line]
    assert len(warnings) == 1
    assert "libGL.so.1" in warnings[0]
    assert "libgl1" in warnings[0]


@needs_faces
@pytest.mark.mediapipe
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("libEGL.so.1: cannot open shared object file: No such file or directory", "libegl1"),
        ("something else", "mediapipe==0.10.21" if sys.version_info < (3, 13) else "mediapipe>=0.10.30"),
    ],
)
def test_command_without_mediapipe(folder: Path, tmp_path: Path, message: str, reason: str) -> None:
    package = (
        "mediapipe.tasks.python.core.base_options" if mediapipe_interface() == TASKS else "mediapipe.python"
    )
    environment = without(tmp_path / "site", package, message)
    failed = nerfgen("landmark", folder, env=environment)
    assert failed.returncode == MissingDependencyError.exit_code
    assert reason in failed.stderr
    assert not (folder / "landmarks.h5").exists()


@pytest.mark.mediapipe
def test_the_light_import_leaves_mediapipe_whole() -> None:
    script = (
        "import sys\n"
        "from nerfgen.landmark import estimator_for\n"
        "from nerfgen.objectclass import object_class\n"
        "estimator_for(object_class('face')).prepared().build()\n"
        "assert not {'cv2', 'matplotlib', 'jax'} & set(sys.modules), sys.modules.keys()\n"
        "import mediapipe\n"
        "assert mediapipe.Image and mediapipe.tasks and mediapipe.__version__\n"
        "assert mediapipe.tasks.vision.FaceLandmarker\n"
    )
    if mediapipe_interface() != TASKS:
        script += "mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=environment, timeout=60, capture_output=True
    )


_COLLECTED_UNDER_A_LOCK = """
import gc, threading
from concurrent.futures import thread as pools
from nerfgen.landmark import estimator_for
from nerfgen.objectclass import object_class

def build():
    return estimator_for(object_class("face")).prepared().build()

cycle = [build()]
cycle.append(cycle)
threads = threading.active_count()
del cycle
with pools._global_shutdown_lock:  # as inside ThreadPoolExecutor.submit
    gc.collect()
kept = build()
assert threading.active_count() == threads, "the first is not closed"
"""


@pytest.mark.mediapipe
def test_networks_may_be_collected_under_the_lock_that_closing_them_takes() -> None:
    if mediapipe_interface() != TASKS:
        pytest.skip("this release of MediaPipe closes networks without a lock")
    subprocess.run(
        [sys.executable, "-c", _COLLECTED_UNDER_A_LOCK],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        capture_output=True,
    )


def test_libraries_are_silent_while_any_thread_wants_it(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = silenced(), silenced()
    first.__enter__()
    entering = threading.Thread(target=second.__enter__)
    entering.start()
    entering.join()
    os.write(2, b"both\n")
    first.__exit__(None, None, None)
    os.write(2, b"one\n")
    second.__exit__(None, None, None)
    os.write(2, b"none\n")
    assert capfd.readouterr().err == "none\n"


_CLOSED_MEANWHILE = """
import os
from nerfgen.pretrained import silenced

real = os.dup2

def dup2(*descriptors):
    os.dup2 = real
    with silenced():  # as the end of a task that is collected now
        real(*descriptors)

os.dup2 = dup2
with silenced():
    os.write(2, b"inside ")
    os.dup2 = dup2
os.write(2, b"after ")
with silenced():
    os.write(2, b"inside ")
os.write(2, b"after")
"""


def test_a_task_that_is_collected_meanwhile_leaves_silence_in_order() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _CLOSED_MEANWHILE],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=30,
    )
    assert done.stderr == "after after"


@needs_faces
@pytest.mark.mediapipe
def test_no_absolute_path_and_no_clock_in_the_file(folder: Path) -> None:
    landmark_folder(folder, folder / "landmarks.h5", workers=1)
    with h5py.File(folder / "landmarks.h5") as file:
        assert str(folder) not in json.dumps({key: str(value) for key, value in file.attrs.items()})
