"""``nerfgen fit-cameras``: camera and framing of every image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from nerfgen.camera import CameraSettings
from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen fit-cameras photos",
    "nerfgen fit-cameras photos --refine-canonical --picture cameras.png",
    "nerfgen fit-cameras photos --intrinsics shared --focal 1.4",
    "nerfgen fit-cameras cats --estimate-canonical --picture cameras.png",
    "nerfgen fit-cameras mine --like photos/model.h5",
)


def fit_cameras(
    data: runtime.DataFolder,
    *,
    landmarks: Annotated[Path | None, runtime.file_option("Landmarks; DATA/landmarks.h5 by default.")] = None,
    settings: CameraSettings,
    like: Annotated[
        Path | None,
        runtime.file_option(
            "Use the canonical keypoints and the focal length of a trained model, for `nerfgen train --init`.",
            "MODEL",
        ),
    ] = None,
    cluster: runtime.Cluster,
    workers: runtime.ClusterWorkers = None,
    output: runtime.OutputFile,
    picture: Annotated[
        Path | None,
        runtime.file_option(
            "Also draw landmarks (green), reprojections (red) and windows of some images.",
            "FILE.png",
            "Output",
        ),
    ] = None,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Fit the camera of every image to its landmarks; writes DATA/cameras.h5.

    Needs the landmarks of `nerfgen landmark`. Also chooses the window of each image that shows the object; the
    following stages use only this window.
    """
    from dataclasses import replace

    from nerfgen.camera import camera_figure, fit_folder
    from nerfgen.image import local_folder
    from nerfgen.model import load_model

    folder = runtime.image_folder(data)
    canonical = None
    if like:
        options.exclude("like", "focal", "refine_canonical", "estimate_canonical")
        model = load_model(like)
        settings = replace(settings, focal=model.focal)
        canonical = (model.canonical_index, model.canonical)
    local = local_folder(folder)
    file = output.output or cluster.shard.path(local / "cameras.h5")
    reporter = messages.reporter()
    summary = fit_folder(
        folder,
        file,
        settings,
        landmarks=landmarks,
        canonical=canonical,
        shard=cluster.shard,
        workers=workers,
        scheduler=cluster.scheduler,
        overwrite=output.overwrite,
        say=reporter.say,
    )
    if summary["kept"]:
        reporter.kept(file)
    if picture:
        camera_figure(folder, landmarks or local / "landmarks.h5", file, picture)
        reporter.say(f"wrote {picture}")
    images, fitted, error = summary["images"], summary["fitted"], summary["reprojection_rmse_px_median"]
    typical = f", median reprojection error {error:.2f} px" if error is not None else ""
    reporter.result(
        {**summary, "output": str(file)},
        f"{images} images, {fitted} with a camera{typical} -> {file}" + other_statuses(summary["statuses"]),
    )
    runtime.check_strict(strict, images - fitted, images)
