"""Makes the figures of docs/gallery.md: a model of synthetic heads and its renderings.

    python examples/gallery.py nerfgen-gallery

Synthesises 1,000 portraits, runs the pipeline on them, fits four people whom the model has not seen, and renders them.
PyVista renders the mesh (pip install pyvista); without it that figure is skipped. Files go to nerfgen-gallery, figures
to nerfgen-gallery/pictures. Current files are kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

import nerfgen
from nerfgen.geometry import Cameras
from nerfgen.image import (
    color_normals,
    composite_over_white,
    contact_sheet,
    depth_limits,
    save_image,
    shade_depth,
)
from nerfgen.model import Objects

SIZE = 128
SETTINGS = nerfgen.RenderSettings(size=SIZE)
YAWS = [-40.0, -20.0, 0.0, 20.0, 40.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--images", type=int, default=1000, help="portraits to train on")
    parser.add_argument("--steps", type=int, default=8000, help="training steps")
    arguments = parser.parse_args()
    out, pictures = arguments.out, arguments.out / "pictures"
    photos, others = out / "photos", out / "others"
    run(f"synth heads {photos} -n {arguments.images} --size 64")
    run(f"synth heads {others} -n 4 --size 64 --seed 1 --views 0")
    run(f"landmark {photos}")
    run(f"fit-cameras {photos} --refine-canonical")
    run(f"segment {photos} --size 64")
    run(f"train {photos} --steps {arguments.steps}")
    run(f"render {photos} --rows 0-3 --size {SIZE} -o {out}/turned.h5 --sheet {pictures}/training.png")
    run(
        f"render {photos} --image {others} --size {SIZE} -o {out}/fitted.h5 --sheet {pictures}/new-photographs.png"
    )
    run(f"export {photos} --codes {out}/fitted.h5:0 -o {out}/head.ply")
    model = nerfgen.load(photos)
    fitted = model.objects(f"{out}/fitted.h5")
    save_image(pictures / "depth-and-normals.png", kinds(model, fitted))
    save_image(pictures / "interpolation.png", interpolation(model, fitted))
    save_image(pictures / "truncation.png", truncations(model))
    save_image(pictures / "axes.png", axes(model))
    if importlib.util.find_spec("pyvista"):
        save_image(pictures / "mesh.png", mesh(out / "head.ply", model.turned(YAWS)))
    else:
        print("no mesh.png: pip install pyvista", file=sys.stderr)


def run(line: str) -> None:
    """Print and run one command line."""
    print(f"$ nerfgen {line}", flush=True)
    subprocess.run([sys.executable, "-m", "nerfgen", *shlex.split(line)], check=True)


def kinds(model: nerfgen.GenerativeModel, fitted: Objects) -> np.ndarray:
    """Each person composited over white, as depth and as normals, from three sides."""
    views = model.render(fitted, model.turned([-35, 0, 35]), SETTINGS, with_normals=True)
    assert views.normals is not None
    cells = []
    for person in range(2):
        limits = depth_limits(views.depth[person])
        cells += [composite_over_white(view) for view in views.rgba[person]]
        cells += [shade_depth(view, limits) for view in views.depth[person]]
        cells += [color_normals(view) for view in views.normals[person]]
    return contact_sheet(cells, columns=9)


def interpolation(model: nerfgen.GenerativeModel, fitted: Objects) -> np.ndarray:
    """Steps between the given people, slightly turned."""
    walk = model.between(fitted, frames=10)
    return contact_sheet([*model.render(walk, model.turned([25]), SETTINGS).rgb[:, 0]], columns=10)


def truncations(model: nerfgen.GenerativeModel) -> np.ndarray:
    """The same samples at three truncations, one row each."""
    samples = [
        model.sample(nerfgen.SampleSettings(count=9, truncation=most, seed=3)) for most in (0.5, 1.0, 2.0)
    ]
    views = [model.render(codes, model.turned([15]), SETTINGS) for codes in samples]
    return contact_sheet([view for row in views for view in row.rgb[:, 0]], columns=9)


def axes(model: nerfgen.GenerativeModel) -> np.ndarray:
    """The first three principal axes from -2.5 to 2.5 standard deviations, one row each."""
    walks = [model.along(axis, np.linspace(-2.5, 2.5, 9).tolist()) for axis in (1, 2, 3)]
    views = [model.render(walk, model.turned([15]), SETTINGS) for walk in walks]
    return contact_sheet([view for row in views for view in row.rgb[:, 0]], columns=9)


def mesh(path: Path, cameras: Cameras) -> np.ndarray:
    """A PLY file rendered by PyVista: with its colours, and as a lit surface without them."""
    import pyvista

    cells = []
    surface = pyvista.read(path)
    for colored in (True, False):
        plotter = pyvista.Plotter(off_screen=True, window_size=(SIZE * 2, SIZE * 2))
        plotter.background_color = "white"
        if colored:
            plotter.add_mesh(surface, scalars="RGBA", rgb=True, lighting=False)
        else:
            plotter.add_mesh(surface, color="lightgray", smooth_shading=True)
        for pose in cameras.cam_to_world:
            position, ahead, down = pose[:3, 3], pose[:3, 2], pose[:3, 1]
            distance = float(np.linalg.norm(position))
            plotter.camera_position = (position, position + distance * ahead, -down)
            plotter.camera.view_angle = float(2 * np.degrees(np.arcsin(1 / distance)))
            plotter.reset_camera_clipping_range()
            plotter.render()
            cells.append(plotter.screenshot(return_img=True)[..., :3])
        plotter.close()
    return contact_sheet(cells, columns=len(cameras.cam_to_world))


if __name__ == "__main__":
    main()
