"""Measures how well models hold the backgrounds of new images.

    python examples/backgrounds.py others plain.h5 photos/model.h5

The images of the folder are fitted with each model. Prints the mean PSNR over the whole image, inside the mask, and
outside, and the sum of the absolute differences of neighbouring pixels outside, as a fraction of that of the images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nerfgen.image import find_images
from nerfgen.inversion import fit_latents, prepare_images
from nerfgen.model import load_model
from nerfgen.render import render_views

LEAST_PIXELS = 50


def main(folder: Path, models: list[Path]) -> None:
    """Print a line for each model."""
    for path in models:
        model = load_model(path)
        framed = prepare_images(model, [folder / name for name in find_images(folder)]).framed
        fitted = fit_latents(model, framed)
        views = render_views(model, fitted.latents, framed.raster_intrinsics, fitted.cam_to_world, model.size)
        images, shown = framed.rgb / 255, views.rgb / 255
        squared = ((images - shown) ** 2).mean(-1)
        outside = (framed.mask < 64) & framed.valid
        figures = []
        for where in (framed.valid, (framed.mask > 127) & framed.valid, outside):
            counts = where.sum((1, 2))
            errors = (squared * where).sum((1, 2))[counts >= LEAST_PIXELS] / counts[counts >= LEAST_PIXELS]
            figures.append(float((-10 * np.log10(errors)).mean()))
        both = outside[:, :, 1:] & outside[:, :, :-1]
        detail = [float((np.abs(np.diff(each, axis=2)).mean(-1) * both).sum()) for each in (shown, images)]
        whole, inside, beyond = figures
        print(
            f"{path}: {whole:.2f} dB, inside {inside:.2f}, outside {beyond:.2f}, detail {detail[0] / detail[1]:.2f}, "
            f"{len(images)} images"
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} IMAGES MODEL ...")
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
