"""Settings of datasets of new objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nerfgen.settings import SettingError, Settings, setting
from nerfgen.storage import Shard, parse_shard


@dataclass(frozen=True)
class PoseDistribution:
    """Distribution of the yaw and pitch of views.

    Attributes:
        kind: ``training``: the pose and distance of a training image; ``uniform``: up to ``yaw`` and ``pitch`` to
            either side; ``normal``: with these standard deviations. The last two have no roll and the training
            cameras' median distance.
        yaw, pitch: degrees.
    """

    kind: Literal["training", "uniform", "normal"] = "training"
    yaw: float = 0.0
    pitch: float = 0.0


def parse_poses(name: str, text: str) -> PoseDistribution:
    """A distribution from words such as ``training``, ``uniform:40,15`` or ``normal:20,8``.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    kind, _, spread = text.partition(":")
    try:
        if kind == "training" and not spread:
            return PoseDistribution()
        yaw, pitch = (float(part) for part in spread.split(","))
    except ValueError:
        yaw = pitch = math.nan
    if kind not in ("uniform", "normal") or not (0 <= yaw <= 180 and 0 <= pitch <= 90):
        raise SettingError(
            f"`{name}` {text}: give training, uniform:YAW,PITCH or normal:YAW,PITCH, "
            "with yaw up to 180 and pitch up to 90 degrees"
        )
    return PoseDistribution("uniform" if kind == "uniform" else "normal", yaw, pitch)


@dataclass(frozen=True)
class DatasetSettings(Settings, title="Dataset for other programs, in place of samples.h5"):
    """Content of a dataset, apart from the draws of its objects and the rendering of its views."""

    views: int = setting(8, minimum=1, maximum=100_000, help="Views of each object.")
    poses: PoseDistribution = setting(
        PoseDistribution(),
        parse=parse_poses,
        metavar="POSES",
        default_text="training",
        help="training: those of the training images; uniform:YAW,PITCH: up to these angles to either side, "
        "degrees; normal:YAW,PITCH: with these standard deviations.",
    )
    min_distance: float = setting(
        0.0,
        minimum=0,
        maximum=100.0,
        help="Redraw objects that are nearer than this to a training row: 0 is identical but for truncation, 1 is "
        "independent.",
    )
    transforms: bool = setting(False, help="Also write the cameras of each object as transforms.json.")
    shard_size: int = setting(100, minimum=1, maximum=1_000_000, help="Objects per shard.")
    shard: Shard = setting(
        Shard(),
        parse=parse_shard,
        metavar="I/N",
        default_text="1/1",
        help="Write only the I-th of every N folders of `shard_size` objects, as job I of an array of N. The folders "
        "of all jobs are the dataset; nothing has to be joined.",
    )
