"""Where the cameras of a dataset stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.geometry import Cameras, aimed_at_origin, intrinsic_matrix, turned_camera, yaw_pitch_roll

# Told apart from the numbers that draw identities, which have three parts: NumPy takes absent ones for zeros.
_STREAM = 1


@dataclass(frozen=True)
class PoseDistribution:
    """What a view's yaw and pitch are drawn from.

    Attributes:
        kind: ``training``: the pose and distance of a training photograph; ``uniform``: up to ``yaw`` and ``pitch`` to
            either side; ``normal``: with these standard deviations. The last two have no roll and the training
            cameras' median distance.
        yaw, pitch: degrees.
    """

    kind: Literal["training", "uniform", "normal"] = "training"
    yaw: float = 0.0
    pitch: float = 0.0


def parse_poses(text: str) -> PoseDistribution:
    """A distribution from words such as ``training``, ``uniform:40,15`` or ``normal:20,8``.

    Raises:
        InputError: it is none.
    """
    kind, _, spread = text.partition(":")
    try:
        if kind == "training" and not spread:
            return PoseDistribution()
        yaw, pitch = (float(part) for part in spread.split(","))
    except ValueError:
        yaw = pitch = np.nan
    if kind not in ("uniform", "normal") or not (0 <= yaw <= 180 and 0 <= pitch <= 90):
        raise InputError(
            f"--poses {text}: give training, uniform:YAW,PITCH or normal:YAW,PITCH, "
            "with yaw up to 180 and pitch up to 90 degrees"
        )
    return PoseDistribution("uniform" if kind == "uniform" else "normal", yaw, pitch)


def training_poses(model: Model) -> Float[np.ndarray, "rows 4"]:
    """Yaw, pitch, roll in degrees and distance of every training camera, were it aimed at the origin."""
    poses = aimed_at_origin(model.cam_to_world)
    distance = np.linalg.norm(poses[:, :3, 3], axis=-1)
    return np.concatenate([yaw_pitch_roll(poses), distance[:, None]], axis=-1)


def draw_poses(
    distribution: PoseDistribution, table: Float[np.ndarray, "rows 4"], seed: int, identity: int, views: int
) -> Float[np.ndarray, "views 4"]:
    """Yaw, pitch, roll and distance of an identity's views; view v depends only on (seed, identity, v).

    Args:
        table: :func:`training_poses`.
    """
    return np.stack([_draw(distribution, table, (seed, identity, view, _STREAM)) for view in range(views)])


def _draw(distribution: PoseDistribution, table: np.ndarray, key: Sequence[int]) -> np.ndarray:
    random = np.random.default_rng(list(key))
    if distribution.kind == "training":
        return table[random.integers(len(table))]
    spread = np.array([distribution.yaw, distribution.pitch])
    drawn = random.uniform(-spread, spread) if distribution.kind == "uniform" else random.normal(0, spread)
    return np.array([*drawn, 0.0, np.median(table[:, 3])])


def cameras_at(poses: Float[np.ndarray, "views 4"], reach: float) -> Cameras:
    """Cameras that look at the origin, in whose pictures a sphere of radius ``reach`` about it fits exactly."""
    yaw, pitch, roll, distance = poses.T
    distance = np.maximum(distance, 1.05 * reach)
    focal = 0.5 * np.sqrt(distance**2 - reach**2) / reach
    return Cameras(
        intrinsic_matrix(focal, np.full((len(poses), 2), 0.5)), turned_camera(yaw, pitch, distance, roll)
    )
