"""The pictures of docs/gallery.md: a model of synthetic heads, and what it makes.

    python examples/gallery.py nerfgen-gallery

Synthesises 1,000 portraits, runs the pipeline on them, fits four people whom the model has not seen, and draws. The
mesh is drawn by PyVista (pip install pyvista), and left out without it. Files go to nerfgen-gallery, pictures to
nerfgen-gallery/pictures; what is there already is kept.
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
from nerfgen.generate import Objects
from nerfgen.geometry import Cameras
from nerfgen.picture import color_normals, contact_sheet, depth_limits, over_white, save_picture, shade_depth

SIZE = 128
YAWS = [-40.0, -20.0, 0.0, 20.0, 40.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--images", type=int, default=1000, help="portraits to train on")
    parser.add_argument("--steps", type=int, default=8000, help="steps of training")
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
    save_picture(pictures / "depth-and-normals.png", kinds(model, fitted))
    save_picture(pictures / "interpolation.png", interpolation(model, fitted))
    save_picture(pictures / "truncation.png", truncations(model))
    save_picture(pictures / "axes.png", axes(model))
    if importlib.util.find_spec("pyvista"):
        save_picture(pictures / "mesh.png", mesh(out / "head.ply", model.turned(YAWS)))
    else:
        print("no mesh.png: pip install pyvista", file=sys.stderr)


def run(line: str) -> None:
    """Run one command as it would be typed, and say so."""
    print(f"$ nerfgen {line}", flush=True)
    subprocess.run([sys.executable, "-m", "nerfgen", *shlex.split(line)], check=True)


def kinds(model: nerfgen.GenerativeModel, fitted: Objects) -> np.ndarray:
    """Each person over white, as depth and as normals, from three sides."""
    views = model.render(fitted, model.turned([-35, 0, 35]), size=SIZE, with_normals=True)
    assert views.normals is not None
    cells = []
    for person in range(2):
        limits = depth_limits(views.depth[person])
        cells += [over_white(view) for view in views.rgba[person]]
        cells += [shade_depth(view, limits) for view in views.depth[person]]
        cells += [color_normals(view) for view in views.normals[person]]
    return contact_sheet(cells, columns=9)


def interpolation(model: nerfgen.GenerativeModel, fitted: Objects) -> np.ndarray:
    """From one person to another and on to a third, each step a little turned."""
    walk = model.between(fitted, frames=10)
    return contact_sheet([*model.render(walk, model.turned([25]), size=SIZE).rgb[:, 0]], columns=10)


def truncations(model: nerfgen.GenerativeModel) -> np.ndarray:
    """The same draws at three truncations, a row each."""
    draws = [model.sample(9, truncation=most, seed=3) for most in (0.5, 1.0, 2.0)]
    views = [model.render(codes, model.turned([15]), size=SIZE) for codes in draws]
    return contact_sheet([picture for row in views for picture in row.rgb[:, 0]], columns=9)


def axes(model: nerfgen.GenerativeModel) -> np.ndarray:
    """The first three principal axes from -2.5 to 2.5 standard deviations, a row each."""
    walks = [model.along(axis, np.linspace(-2.5, 2.5, 9).tolist()) for axis in (1, 2, 3)]
    views = [model.render(walk, model.turned([15]), size=SIZE) for walk in walks]
    return contact_sheet([picture for row in views for picture in row.rgb[:, 0]], columns=9)


def mesh(path: Path, cameras: Cameras) -> np.ndarray:
    """A PLY file as PyVista shows it: with its colours, and as a lit surface without them."""
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
