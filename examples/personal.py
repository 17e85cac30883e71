"""Measures what further images of one person are worth: an image that was left out, from its own camera.

    python examples/personal.py people/model.h5 album --images 1,2,all

The folder has one subfolder for each person. The last image of each is left out, and fitted by itself for its camera.
To the first image, the first two, and all others, codes are fitted by themselves and together, without and with one
change of the networks; people with too few images are left out. Each code is rendered from the camera of the image left
out. Prints one line for each way, with means over all people: the PSNR inside the mask, the same with the exposure
matched, the similarity of the face's identity (of faces, where its network is installed), and the seconds a person.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nerfgen.data import FramedImages
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.turned_views import detect_objects, embed_faces, shows_faces
from nerfgen.geometry import window_intrinsics
from nerfgen.image import InputImage, find_images, resample_window
from nerfgen.inversion import fit_latents, fit_one_object, prepare_images, tune_networks
from nerfgen.metric import match_exposure
from nerfgen.model import Model, load_model
from nerfgen.render import render_views

SIZE, MARGIN = 256, 1.5


class Result(NamedTuple):
    """A code in place of an image: both from the image's camera."""

    image: np.ndarray
    rendered: np.ndarray
    psnr: float
    matched: float
    seconds: float


def ways(
    model: Model, framed: FramedImages, spreads: list[float], *, tune: bool
) -> Iterator[tuple[str, np.ndarray, Model, float]]:
    """Name of a way to fit one person, their code, the networks, and seconds."""
    start = time.perf_counter()
    alone = fit_latents(model, framed)
    seconds = time.perf_counter() - start
    yield "mean of codes fitted alone", alone.latents.mean(0), model, seconds
    yield "first image alone", alone.latents[0], model, seconds
    for spread in spreads:
        start = time.perf_counter()
        joint = fit_one_object(model, framed, spread=spread)
        seconds = time.perf_counter() - start
        name = f"together, spread {spread:g}"
        yield name, joint.latent, model, seconds
        yield f"{name}, first image's", joint.fitted.latents[0], model, seconds
        if tune:
            tuned = tune_networks(model, framed, joint.fitted, shared=True)
            changed = model.tuned(next(iter(tuned.deltas.values()), None))
            seconds = time.perf_counter() - start
            yield f"{name}, tuned", joint.latent, changed, seconds
            yield f"{name}, tuned, first image's", joint.fitted.latents[0], changed, seconds


def compare(
    model: Model, latent: np.ndarray, file: Path, target: FramedImages, pose: np.ndarray, seconds: float
) -> Result:
    """A code from the camera of an image."""
    view = render_views(model, latent[None], target.raster_intrinsics, pose, model.size).rgb[0] / 255
    image, inside = target.rgb[0] / 255, (target.mask[0] > 127) & target.valid[0]
    matched = match_exposure(view, np.ones_like(view[..., 0]), image, inside)
    psnr = [-10 * np.log10(np.mean((each[inside] - image[inside]) ** 2)) for each in (view, matched)]
    x, y, side = target.window[0]
    wide = (x - (MARGIN - 1) / 2 * side, y - (MARGIN - 1) / 2 * side, MARGIN * side)
    matrices = window_intrinsics(target.intrinsics, np.array([wide]), SIZE)
    large = render_views(model, latent[None], matrices, pose, SIZE).rgb[0]
    original, _ = resample_window(InputImage(file).pixels()[0], wide, SIZE)
    return Result(original, large, psnr[0], psnr[1], seconds)


def identities(model: Model, results: list[Result]) -> np.ndarray:
    """Similarity of the faces of images and renderings; NaN where there is none."""
    context = EvaluationContext(model, EvaluationInputs(Path(), Path()), EvaluationSettings())
    if not shows_faces(model) or isinstance(context.face_embedding, str):
        return np.full(len(results), np.nan)
    first, second = (
        embed_faces(context, images, detect_objects(context, images).landmarks)
        for images in (
            np.stack([each.image for each in results]),
            np.stack([each.rendered for each in results]),
        )
    )
    return (first * second).sum(1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", default="1,2,all")
    parser.add_argument("--spreads", default="0,0.3")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    model, spreads = load_model(given.model), [float(word) for word in given.spreads.split(",")]
    words = given.images.split(",")
    least = max(2, *(int(word) + 1 for word in words if word != "all"))
    found: dict[tuple[str, str], list[Result]] = {}
    for person in sorted(each for each in given.folder.iterdir() if each.is_dir())[: given.people]:
        files = [person / name for name in find_images(person)]
        prepared = prepare_images(model, files)
        framed, last = prepared.framed, len(prepared.index) - 1
        if last + 1 < least:
            continue
        target, file = framed.subset(np.array([last])), files[prepared.index[last]]
        itself = fit_latents(model, target)
        seen = file, target, itself.cam_to_world
        found.setdefault(("-", "the image left out itself"), []).append(
            compare(model, itself.latents[0], *seen, 0.0)
        )
        for word in words:
            count = last if word == "all" else int(word)
            for name, latent, changed, seconds in ways(
                model, framed.subset(np.arange(count)), spreads, tune=given.tune
            ):
                found.setdefault((word, name), []).append(compare(changed, latent, *seen, seconds))
    similar = identities(model, [each for results in found.values() for each in results])
    for (word, name), results in found.items():
        own, similar = similar[: len(results)], similar[len(results) :]
        plain, matched, seconds = (
            np.mean([getattr(each, key) for each in results]) for key in ("psnr", "matched", "seconds")
        )
        print(
            f"{word:>4} {name:44s} {plain:6.2f} {matched:6.2f} dB {np.nanmean(own):6.3f} {seconds:6.2f} s, "
            f"{len(results)} people"
        )


if __name__ == "__main__":
    main()
