"""Table *pairs*: one image of an object fitted, turned, and compared with another image of the same object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_images import FittedImages, fit_images
from nerfgen.evaluate.image_comparison import image_metrics
from nerfgen.evaluate.inputs import folder_name, read_pairs
from nerfgen.evaluate.turned_views import (
    face_similarities,
    image_faces,
    lacking_estimator,
    rendered_faces,
    shows_faces,
)
from nerfgen.image import existing_images, shade_depth
from nerfgen.metric import Median, match_exposure, reprojection_errors, rotation_errors
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent
from nerfgen.render import Views, render_views, to_uint8
from nerfgen.report import BACKGROUNDS, ImageGrid, ItemValues, PairMetric, Table, merge_tables

# What the turned fit has to beat.
_BASELINES = ("unturned", "class_mean")


@dataclass(frozen=True)
class FittedPairs:
    """Pairs of images, all fitted.

    Attributes:
        names: ``source -> target`` of each pair.
        fitted: the images.
        source, target: index of each pair's images in ``fitted``.
        notes: which pairs these are, and why others were left out.
    """

    names: list[str]
    fitted: FittedImages
    source: Int[np.ndarray, "pairs"]
    target: Int[np.ndarray, "pairs"]
    notes: list[str]


class Layers(NamedTuple):
    """Images in front of white.

    Attributes:
        color: premultiplied by opacity, in [0, 1].
        opacity: in [0, 1].
    """

    color: Float[np.ndarray, "pairs size size 3"]
    opacity: Float[np.ndarray, "pairs size size"]

    def over_white(self) -> UInt8[np.ndarray, "pairs size size 3"]:
        """Composited over white."""
        return to_uint8(self.color + (1 - self.opacity[..., None]))

    def matched(
        self, target: Float[np.ndarray, "pairs size size 3"], where: Bool[np.ndarray, "pairs size size"]
    ) -> Layers:
        """With the exposure of the targets at the pixels ``where``."""
        each = zip(self.color, self.opacity, target, where, strict=True)
        return self._replace(color=np.stack([match_exposure(*arrays) for arrays in each]))


# By key of :data:`BACKGROUNDS`.
Backdrops = dict[str, Layers]


def pairs_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """Pairs of images of one object. A latent code is fitted to each of the two, and these images are compared with the
    target, at the model's size:

    - ``turned``: the source's latent code from the target's camera, as the target's own fit refined it;
    - ``turned_landmark_camera``: the same from the camera before that fit;
    - ``itself``: the target's own latent code and camera: the most that the model can hold;
    - ``class_mean``: the mean latent code from the target's camera;
    - ``unturned``: the source image itself.

    Compared are the pixels of the target's mask (probability above 0.5) that lie on the image. There the target is the
    same for both backgrounds. ``white`` composites a rendering over white, which punishes missing opacity; ``own`` is
    the rendering over the background of the latent code, as the model is trained; for ``unturned`` the source over
    white by its mask, and as it is. ``matched`` first applies the gain and offset of each colour channel that bring the
    compared image closest to the target over these pixels: light and exposure change between the images. White stays
    white.

    Raises:
        InputError: the list of pairs is unreadable or names absent images.
    """
    if context.inputs.pairs is None:
        return Table({}, missing=["no pairs; set `held_out` to a folder and `pairs` to a list of its images"])
    listed = _listed_pairs(context)
    try:
        pairs = _fit_pairs(context, listed, progress)
    except InputError as error:
        return Table({}, missing=[context.portable_message(error)])
    views = _target_views(context.model, pairs)
    images = {name: _backdrops(each.foreground, each.opacity, each.rgb / 255) for name, each in views.items()}
    mask = _inside(pairs.fitted)[pairs.source].astype(np.float64)
    source = pairs.fitted.framed.rgb[pairs.source] / 255
    images["unturned"] = _backdrops(source * mask[..., None], mask, source)
    compared = _compare(context, pairs, images)
    return merge_tables(
        [
            Table({}, notes=pairs.notes, missing=_missing_masks(pairs)),
            _conclusions(pairs, compared),
            _opacity(pairs, views["itself"]),
            _identity(context, pairs),
            _cameras(context, pairs),
            compared,
            Table({}, grids={"pairs": _grid(context, pairs, views)}),
        ]
    )


def _listed_pairs(context: EvaluationContext) -> list[tuple[str, str]]:
    """All pairs of the list.

    Raises:
        InputError: the list is unreadable or names absent images.
    """
    path, folder = context.inputs.pairs, context.inputs.held_out
    assert path is not None
    if folder is None:
        raise InputError(f"{path.name}: its images are in no known folder; set `held_out` too")
    pairs = read_pairs(path)
    names = [name for pair in pairs for name in pair]
    there = existing_images(folder, names)
    for name in names:
        if name not in there:
            raise InputError(f"{path.name}: {name} is not in {folder_name(folder)}")
    return pairs


def _fit_pairs(context: EvaluationContext, listed: list[tuple[str, str]], progress: Progress) -> FittedPairs:
    """Fit the images of the first pairs, as many as the settings allow.

    Raises:
        InputError: no pair has two usable images.
    """
    inputs = context.inputs
    assert inputs.pairs is not None
    requested = listed[: context.settings.images]
    names = list(dict.fromkeys(name for pair in requested for name in pair))
    fitted = fit_images(context.model, inputs, names, context.settings, context.workers, progress)
    # Nothing can be compared where the mask is empty.
    shown = _inside(fitted).any((1, 2))
    place = {name: number for number, name in enumerate(fitted.framed.images) if shown[number]}
    usable = [pair for pair in requested if all(name in place for name in pair)]
    absent = ", ".join(name for name in names if name not in place)
    if not usable:
        raise InputError(f"{inputs.pairs.name}: no pair has two usable images; unusable: {absent}")
    count = f"{len(usable)} of {len(listed)} pairs of {inputs.pairs.name}"
    notes = [f"{count}, a latent code fitted to each image", *fitted.notes]
    if absent:
        notes.append(f"{len(requested) - len(usable)} pairs have an unusable image: {absent}")
    source, target = np.array([[place[name] for name in pair] for pair in usable]).T
    return FittedPairs([f"{first} -> {second}" for first, second in usable], fitted, source, target, notes)


def _inside(fitted: FittedImages) -> Bool[np.ndarray, "images size size"]:
    """Pixels of the object on each image."""
    return (fitted.framed.mask > 127) & fitted.framed.valid


def _backdrops(
    foreground: Float[np.ndarray, "pairs size size 3"],
    opacity: Float[np.ndarray, "pairs size size"],
    whole: Float[np.ndarray, "pairs size size 3"],
) -> Backdrops:
    """Foregrounds over white, and whole images, which are over their own background."""
    return {"white": Layers(foreground, opacity), "own": Layers(whole, np.ones_like(opacity))}


def _target_views(model: Model, pairs: FittedPairs) -> dict[str, Views]:
    """What the model shows from the cameras of the targets."""
    fitted, target = pairs.fitted, pairs.target
    intrinsics = fitted.framed.raster_intrinsics[target]
    refined, initial = fitted.framed.cam_to_world[target], fitted.initial[target]
    turned = fitted.latents[pairs.source]
    mean = np.broadcast_to(model.latents.mean(0), turned.shape)
    wanted = {
        "turned": (turned, refined),
        "turned_landmark_camera": (turned, initial),
        "itself": (fitted.latents[target], refined),
        "class_mean": (mean, refined),
    }
    return {
        name: render_views(model, latents, intrinsics, poses, model.size)
        for name, (latents, poses) in wanted.items()
    }


def _compare(context: EvaluationContext, pairs: FittedPairs, images: dict[str, Backdrops]) -> Table:
    """All image metrics of all compared images."""
    whole, inside = pairs.fitted.framed.rgb[pairs.target], _inside(pairs.fitted)[pairs.target]
    target = {"white": np.where(inside[..., None], whole, np.uint8(255)), "own": whole}
    parts = []
    for name, background, matched in product(images, BACKGROUNDS, (False, True)):
        layers = images[name][background]
        if matched:
            layers = layers.matched(whole / 255, inside)
        part = image_metrics(context, pairs.names, target[background], layers.over_white(), inside)
        values = {
            PairMetric(name, background, matched, measure).name: own for measure, own in part.values.items()
        }
        parts.append(replace(part, values=values))
    return merge_tables(parts)


def _conclusions(pairs: FittedPairs, compared: Table) -> Table:
    """In how many pairs the turned fit beats the baselines, and where PSNR is lost."""
    values = {}
    for background in BACKGROUNDS:
        level = {
            # The unturned image has no missing opacity: it is always itself that has to be beaten.
            name: compared.values[
                PairMetric(name, "own" if name == "unturned" else background, False, "psnr_db").name
            ].values
            for name in ("turned", "turned_landmark_camera", "itself", *_BASELINES)
        }
        for name in _BASELINES:
            beats = (level["turned"] > level[name]).astype(np.float64)
            values[f"turned_beats_{name}_{background}_fraction"] = beats
        values[f"turning_loss_{background}_db"] = level["itself"] - level["turned"]
        values[f"camera_loss_{background}_db"] = level["turned"] - level["turned_landmark_camera"]
    return Table({name: ItemValues(pairs.names, own) for name, own in values.items()})


def _opacity(pairs: FittedPairs, views: Views) -> Table:
    inside = _inside(pairs.fitted)[pairs.target]
    mean = [float(own[where].mean()) for own, where in zip(views.opacity, inside, strict=True)]
    return Table({"opacity": ItemValues(pairs.names, np.array(mean))})


def _identity(context: EvaluationContext, pairs: FittedPairs) -> Table:
    """Similarity of the target's face to the source's turned fit, to its own fit, to other objects' turned fits, and to
    the source image's face."""
    network, names = context.face_embedding, "identity_similarity"
    if not shows_faces(context.model):
        return Table({})
    if isinstance(network, str):
        return Table({}, missing=[f"{names}: {network}"])
    if lacking := lacking_estimator(context):
        return Table({}, missing=[f"{names}: {lacking}"])
    fitted, source, target = pairs.fitted, pairs.source, pairs.target
    try:
        faces = image_faces(context, fitted)
    except MissingDependencyError as error:
        return Table({}, missing=[f"{names}: {error}"])
    image = faces[target]
    turned = face_similarities(image, rendered_faces(context, fitted, fitted.latents[source], target))
    itself = face_similarities(image, rendered_faces(context, fitted, fitted.latents[target], target))
    values = {
        "identity_similarity": turned.own,
        "identity_similarity_unturned": itself.own,
        "identity_similarity_others": turned.others,
        "identity_similarity_images": face_similarities(image, faces[source]).own,
    }
    return Table({name: ItemValues(pairs.names, own) for name, own in values.items()})


def _cameras(context: EvaluationContext, pairs: FittedPairs) -> Table:
    """How far the fits moved the cameras, over the images of the pairs."""
    fitted, used = pairs.fitted, np.unique([pairs.source, pairs.target])
    names = [fitted.framed.images[place] for place in used]
    refined, initial = fitted.framed.cam_to_world[used], fitted.initial[used]
    angle = rotation_errors(refined, initial, np.eye(3))
    values = {"camera_angle_deg": angle}
    if fitted.points is not None:
        seen = fitted.points[used], fitted.framed.canonical, fitted.framed.intrinsics[used]
        values["reprojection_px"] = reprojection_errors(*seen, refined)
        values["landmark_reprojection_px"] = reprojection_errors(*seen, initial)
    return Table(
        {name: ItemValues(names, own) for name, own in values.items()},
        pooled={"camera_angle_median_deg": Median(angle).estimate(context.settings.seed)},
    )


def _missing_masks(pairs: FittedPairs) -> list[str]:
    if (pairs.fitted.framed.mask < 255).any():
        return []
    return ["masks of the images: whole images are compared; `nerfgen segment` writes masks"]


def _grid(context: EvaluationContext, pairs: FittedPairs, views: dict[str, Views]) -> ImageGrid:
    """Both images, their fits, the turned fit with its depth, and the class mean."""
    model, fitted = context.model, pairs.fitted
    count = min(context.settings.shown, len(pairs.names))
    shown = np.linspace(0, len(pairs.names) - 1, count).astype(int)
    source, target = pairs.source[shown], pairs.target[shown]
    framed = fitted.framed.subset(source)
    own = render_views(
        model, fitted.latents[source], framed.raster_intrinsics, framed.cam_to_world, model.size
    )
    depth: list[UInt8[np.ndarray, "size size 3"]] = [shade_depth(views["turned"].depth[k]) for k in shown]
    columns = {
        "source": framed.rgb,
        "source, fitted": own.rgb,
        "turned": views["turned"].rgb[shown],
        "depth of turned": np.stack(depth),
        "target": fitted.framed.rgb[target],
        "target, fitted itself": views["itself"].rgb[shown],
        "class mean": views["class_mean"].rgb[shown],
    }
    return ImageGrid([pairs.names[k] for k in shown], list(columns), np.stack(list(columns.values()), axis=1))
