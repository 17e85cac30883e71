"""One small file of every schema and its inputs, made by the real commands: what tests and campaigns then damage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import h5py
import jax
import numpy as np
from forked_program import ForkedProgram
from PIL import Image

# The smallest recipe that trains, renders and has every kind of latent code.
RECIPE = {
    "size": 16,
    "latent_size": 4,
    "width": 8,
    "depth": 1,
    "background_width": 4,
    "background_depth": 1,
    "plane_size": 6,
    "plane_channels": 2,
    "local_size": 2,
    "local_channels": 2,
    "background_cells": 2,
    "background_channels": 2,
    "samples": 4,
    "images_per_batch": 4,
    "rays_per_image": 8,
    "steps": 4,
    "camera_learning_rate": 0,
}
MUG = """name = "mug"
landmarks = ["rim_left", "rim_right", "rim_back", "handle", "base_left", "base_right"]
symmetry = [["rim_left", "rim_right"], ["base_left", "base_right"]]
unit = ["rim_left", "rim_right"]
"""
MUG_NAMES = ("rim_left", "rim_right", "rim_back", "handle", "base_left", "base_right")

# Where each schema's file is.
FILES = {
    "landmarks/1": "mugs/landmarks.h5",
    "cameras/1": "photos/cameras.h5",
    "masks/1": "photos/masks.h5",
    "truth/1": "cars/truth.h5",
    "pixels/1": "photos/pixels.h5",
    "model/1": "trained.h5",
    "checkpoint/1": "unfinished/model.checkpoint-000000020.h5",
    "views/1": "views.h5",
    "direction/1": "age.direction.h5",
    "personal/1": "anna.personal.h5",
    "identities/1": "people/shard-00000/identities.h5",
    "report/1": "report.h5",
    "study/1": "study.h5",
    "landmarker/1": "mug.h5",
}


def recipe(**changes: int) -> list[str]:
    """The recipe as options of ``nerfgen train``."""
    return [word for name, value in (RECIPE | changes).items() for word in ("--set", f"{name}={value}")]


def make_files(program: ForkedProgram, folder: Path, *, slow: bool = False) -> Path:
    """Make everything in ``folder``, once; with ``slow`` also the files that need training or much compilation."""
    for words in chain(_quick(folder), _slow(folder) if slow else ()):
        done = program.run([str(word) for word in words], folder, seconds=120)
        assert done.code == 0, (words, done)
    return folder


def _quick(folder: Path) -> Iterator[list[object]]:
    yield ["synth", "cars", "cars", "-n", 6, "--size", 24, "--views", 2, "--heldout-objects", 2]
    for name, kind in (("photos", "transforms"), ("ffhq", "eg3d"), ("srn", "srn")):
        yield ["export-cameras", "cars/truth.h5", "--format", kind, "-o", name]
    shutil.make_archive(str(folder / "ffhq"), "zip", folder / "ffhq")
    yield ["import", "photos", "--class", "cars", "--scale", 1]
    yield ["segment", "photos", "--method", "color"]
    make_mugs(folder / "mugs")
    yield ["import", "mugs/mugs.csv", "--class", "mugs/mug.toml"]
    shutil.copyfile(Path(__file__).parent / "data" / "model_planes.h5", folder / "model.h5")
    with h5py.File(folder / "model.h5") as file:
        images = [image.decode() for image in file["image"][:]]
    labels = [f"{image},{number * number % 5}" for number, image in enumerate(images)]
    (folder / "age.csv").write_text("\n".join(["image,value", *labels]))
    yield ["directions", "model.h5", "age.csv"]
    make_personal(folder / "anna.personal.h5", folder / "model.h5")
    views = ["--rows", "0-1", "--yaw", "0,20", "--size", 8]
    yield ["render", "model.h5", *views, "-o", "views.h5", "--save-path", "path.json"]
    yield ["export", "model.h5", "--rows", 0, "--resolution", 12, "-o", "mesh.glb"]
    yield ["export", "model.h5", "--rows", 0, "--resolution", 12, "-o", "mesh.ply"]


def _slow(folder: Path) -> Iterator[list[object]]:
    train = ["train", "photos", "--no-preview", *recipe()]
    yield [*train, "--cache", "photos/pixels.h5", "-o", "trained.h5"]
    # The loss is looked at every 20 steps, and a checkpoint written then.
    train = ["train", "photos", "--no-preview", *recipe(steps=21), "--checkpoint-minutes", 0, "--keep", 1]
    yield [*train, "--cache", "photos/pixels.h5", "-o", "unfinished/model.h5"]
    (folder / "unfinished/model.h5").unlink()
    yield ["sample", "model.h5", "-n", 2, "--dataset", "people", "--views", 2, "--size", 8]
    evaluate = ["--tables", "train", "-n", 2]
    yield ["evaluate", "trained.h5", "--data", "photos", *evaluate, "-o", "report.h5"]
    yield ["evaluate", "photos", "--sweep", "seed=0,1", *evaluate, *recipe(), "-o", "study.h5"]
    make_estimator(folder / "mug.h5")


def make_personal(path: Path, model_path: Path) -> None:
    """A person as `nerfgen personalise` writes it, but of rows: photographs of people are not part of the tests."""
    from nerfgen import storage
    from nerfgen.field import tunable_parameters
    from nerfgen.model import PERSONAL_SCHEMA, load_model, save_personal, table_objects

    model = load_model(model_path)
    rows = table_objects(model, [0, 1, 2])
    delta = {name: tree for name, tree in tunable_parameters(model.parameters).items()}
    objects = replace(
        rows,
        names=["anna", "first.jpg", "second.jpg"],
        rows=np.full(3, -1),
        tuned=dict.fromkeys(range(3), jax.tree.map(lambda each: np.full_like(each, 1e-3, np.float16), delta)),
        images={number: np.full((8, 8, 3), 99, np.uint8) for number in (1, 2)},
        extra={"fit_psnr": np.full(3, 20.0, np.float32), "fit_iterations": np.full(3, 100, np.int32)},
    )
    record = storage.folder_record(["first.jpg", "second.jpg"], [(3, "0" * 64), (4, "1" * 64)])
    fit = {"fit_steps": 100, "start": "guess", "fit_cameras": None, "tune_steps": 100, "seed": 0}
    stage = storage.Stage(
        path,
        PERSONAL_SCHEMA,
        model.object_class,
        parameters={"name": "anna", "spread": 0.3, **fit},
        inputs=[storage.file_record(model_path), record],
    )
    save_personal(stage, objects)


def make_estimator(path: Path) -> None:
    """A landmark estimator of mugs as `nerfgen train-landmarker` writes it, but untrained: that takes minutes."""
    import jax

    from nerfgen import storage
    from nerfgen.landmark.estimator_file import TrainedEstimator, save_estimator
    from nerfgen.landmark.network import Networks
    from nerfgen.objectclass import class_from_text

    described = class_from_text(MUG, "mug.toml")
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: Networks(len(MUG_NAMES), 1).initial(0))
    parameters = jax.tree.map(lambda leaf: random.normal(0, 0.05, leaf.shape).astype(np.float32), shapes)
    save_estimator(
        storage.Stage(path, "landmarker/1", described, {"steps": 0}),
        TrainedEstimator(
            (described,), random.uniform(0.2, 0.8, (1, len(MUG_NAMES), 2)).astype(np.float32), parameters
        ),
        held_out=["0.png"],
        errors=np.zeros((1, len(MUG_NAMES)), np.float32),
        scores=np.ones(1, np.float32),
        summary={"images": 12, "held_out": 1, "steps": 0},
    )


def make_mugs(folder: Path, count: int = 12) -> None:
    """Images of mugs from several sides, with six landmarks each in mugs.csv, and the class in mug.toml."""
    random = np.random.default_rng(7)
    points = np.array(
        [[-0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0.5, -0.5], [0, 0, 0.8], [-0.4, -0.5, 0], [0.4, -0.5, 0]]
    )
    folder.mkdir(parents=True)
    lines = ["image," + ",".join(f"{name}_x,{name}_y" for name in MUG_NAMES)]
    for number in range(count):
        yaw, pitch = random.uniform(-0.6, 0.6), random.uniform(0.0, 0.5)
        across = np.array([np.cos(yaw), 0, -np.sin(yaw)])
        toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        x, y, depth = points @ across, points @ np.cross(toward, across), 4 - points @ toward
        pixels = 24 + 96 * np.stack([x, -y], 1) / depth[:, None]
        pixel = np.full((48, 48, 3), 255, np.uint8)
        for u, v in pixels.astype(int):
            pixel[max(v - 6, 0) : v + 6, max(u - 6, 0) : u + 6] = (40 + 10 * number, 60, 90)
        Image.fromarray(pixel).save(folder / f"{number}.png")
        lines.append(f"{number}.png," + ",".join(f"{value:.2f}" for value in pixels.ravel()))
    (folder / "mugs.csv").write_text("\n".join(lines) + "\n")
    (folder / "mug.toml").write_text(MUG)
