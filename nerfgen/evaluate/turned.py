"""New objects as the class's landmarker sees them: whether it finds them, and from where it sees turned ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen import artifact
from nerfgen.camera import fit_folder
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.cameras import points_of_angles
from nerfgen.evaluate.portrait import portrait_cameras, portraits, pose_limits
from nerfgen.evaluate.subject import Subject
from nerfgen.generate import Objects
from nerfgen.geometry import rotation_angle, yaw_pitch_roll
from nerfgen.landmark import estimator_for, landmark_folder
from nerfgen.parallel import Progress, silent
from nerfgen.picture import save_picture
from nerfgen.report.table import Measured, Table, merged

# Edge of the pictures that landmarkers are given, pixels.
_SIZE = 128
# They show more than the windows of photographs: landmarkers turn tight crops upside down at times.
_ROOM = 1.25


def landmarked(subject: Subject, drawn: Objects, progress: Progress = silent) -> Table:
    """New objects, each turned, in which the landmarker finds one, and the poses that it tells.

    Every sample is shown once, at a yaw and a pitch drawn evenly within :func:`pose_limits`; sample i's depend only on
    the seed and i. The angle between the pose asked for and the one found needs no alignment: canonical points and
    model share a world.
    """
    model, landmarker = subject.model, subject.sources.landmarker
    what = "detected_fraction, pose_error_deg"
    try:
        estimator_for(model.object_class, landmarker)
    except InputError as error:
        told = (
            str(error)
            if landmarker
            else f"class {model.object_class.name} brings none; give --landmarker FILE"
        )
        return Table(values={}, missing=[f"{what}: no landmarker: {told}"])
    limits = pose_limits(model)
    asked = np.random.default_rng([subject.settings.seed, 1]).uniform(-limits, limits, (len(drawn), 2))
    cameras = portrait_cameras(model, asked, _ROOM)
    views = portraits(model, drawn.latents, asked, _SIZE, room=_ROOM, progress=progress)
    try:
        found, poses = seen_by_landmarker(subject, views.rgb, float(cameras.intrinsics[0, 0, 0]))
    except MissingDependencyError as error:
        return Table(values={}, missing=[f"{what}: {error}"])
    detected = Table(
        values={"detected_fraction": Measured(drawn.names, found.astype(float))},
        notes=[
            "what the landmarker sees is turned: yaw within {:g}, pitch within {:g} degrees".format(*limits)
        ],
    )
    if poses is None:
        lacking = "pose_error_deg: the model's cameras were given, not fitted to landmarks"
        return merged([detected, Table(values={}, missing=[lacking])])
    errors = rotation_angle(poses[:, :3, :3], cameras.cam_to_world[:, :3, :3])
    seen = yaw_pitch_roll(poses)
    posed = Table(
        values={"pose_error_deg": Measured(drawn.names, errors)},
        points={
            f"{name} of turned samples": points_of_angles(
                asked[:, axis], seen[:, axis], f"{name} asked for", f"{name} by landmarks"
            )
            for axis, name in enumerate(("yaw", "pitch"))
        },
    )
    return merged([detected, posed])


def seen_by_landmarker(
    subject: Subject, pictures: UInt8[np.ndarray, "pictures size size 3"], focal: float
) -> tuple[Bool[np.ndarray, "pictures"], Float[np.ndarray, "pictures 4 4"] | None]:
    """In which pictures the class's landmarker finds an object, and the cameras that the landmarks tell.

    The cameras are fitted as those of new photographs are, to the model's canonical points: NaN where there is none,
    and None for a model whose cameras were not fitted to landmarks.

    Args:
        focal: focal length in units of the pictures' edge.

    Raises:
        InputError: there is no landmarker.
        MissingDependencyError: a package or library of the landmarker is absent.
    """
    model = subject.model
    with tempfile.TemporaryDirectory(prefix="nerfgen-") as folder:
        data = Path(folder)
        landmarks, cameras = data / "landmarks.h5", data / "cameras.h5"
        for number, picture in enumerate(pictures):
            save_picture(data / f"{number:09d}.png", picture, tidy=False)
        landmark_folder(
            data,
            landmarks,
            object_class=model.object_class,
            model=subject.sources.landmarker,
            workers=subject.workers,
        )
        with artifact.reading(landmarks, "landmarks/1") as file:
            found = artifact.usable(artifact.strings(file["status"]))
        if not len(model.canonical):
            return found, None
        fit_folder(data, cameras, focal=focal, canonical=(model.canonical_index, model.canonical))
        with artifact.reading(cameras, "cameras/1") as file:
            return found, file["cam_to_world"][:]
