"""The plan of a dataset: camera poses of its views, shards, what its views depend on, and ``dataset.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

import nerfgen
from nerfgen import storage
from nerfgen.dataset.settings import DatasetSettings, PoseDistribution
from nerfgen.geometry import Cameras, aimed_at_origin, intrinsic_matrix, turned_camera, yaw_pitch_roll
from nerfgen.image import DEPTH_LEVELS, MAX_DEPTH
from nerfgen.memory import require_memory
from nerfgen.model import Model, SampleSettings
from nerfgen.objectclass import ObjectClass
from nerfgen.render import RenderSettings
from nerfgen.settings import SettingError

# Separates these random streams from those of identities, whose keys have three parts: NumPy pads keys with zeros.
_STREAM = 1
_MOST_SHARDS = 1_000_000
# Cameras, names and digests of the views of a shard.
_BYTES_PER_VIEW = 600


def training_poses(model: Model) -> Float[np.ndarray, "rows 4"]:
    """Yaw, pitch, roll in degrees and distance of every training camera, turned to aim at the origin."""
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
    """Cameras that look at the origin and whose images a sphere of radius ``reach`` around it fits exactly."""
    yaw, pitch, roll, distance = poses.T
    distance = np.maximum(distance, 1.05 * reach)
    focal = 0.5 * np.sqrt(distance**2 - reach**2) / reach
    return Cameras(
        intrinsic_matrix(focal, np.full((len(poses), 2), 0.5)), turned_camera(yaw, pitch, distance, roll)
    )


@dataclass(frozen=True)
class Plan:
    """Everything that determines a dataset of a model."""

    sampling: SampleSettings
    rendering: RenderSettings
    dataset: DatasetSettings

    def __post_init__(self) -> None:
        dataset, count = self.dataset, self.sampling.count
        if -(-count // dataset.shard_size) > _MOST_SHARDS:
            raise SettingError(
                f"`count` {count} in shards of `shard_size` {dataset.shard_size} make over {_MOST_SHARDS:,} shards; "
                "choose larger shards"
            )
        require_memory(
            _BYTES_PER_VIEW * min(count, dataset.shard_size) * dataset.views,
            f"shards of `shard_size` {dataset.shard_size:,} objects, `views` {dataset.views:,}",
        )

    @property
    def shards(self) -> dict[str, range]:
        """The identities of every shard, by its name."""
        starts = range(0, self.sampling.count, self.dataset.shard_size)
        return {
            f"shard-{number:05d}": range(start, min(start + self.dataset.shard_size, self.sampling.count))
            for number, start in enumerate(starts)
        }

    def parameters(self, model: Model) -> dict[str, object]:
        """Everything that a view of an identity depends on, which excludes the number of identities and the shards."""
        return {
            "views": self.dataset.views,
            **self.rendering.parameters(model),
            "truncation": self.sampling.truncation,
            "components": self.sampling.components,
            "seed": self.sampling.seed,
            "poses": asdict(self.dataset.poses),
            "min_distance": self.dataset.min_distance,
            "transforms": self.dataset.transforms,
        }


def view_name(identity: int, view: int, views: int) -> str:
    """Path of a view below ``rgb``, ``mask`` and ``depth``."""
    return f"{identity:06d}/{view:0{max(2, len(str(views - 1)))}d}.png"


def write_description(stage: storage.Stage, plan: Plan, described: ObjectClass, near: float) -> None:
    """Write layout, conventions and settings as one JSON file.

    Args:
        near: largest distance to a training row at which an identity is too near.
    """
    name = view_name(0, 0, plan.dataset.views)
    landmarks = f", landmarks ({', '.join(described.landmark_names)})" if described.landmark_names else ""
    layout = {
        f"shard-00000/rgb/{name}": "colour with background, 8 bit; folder: number of the identity, file: its view",
        f"shard-00000/mask/{name}": "opacity of the object times 255, 8 bit",
        f"shard-00000/depth/{name}": f"depth, 16 bit, in steps of 1/{DEPTH_LEVELS} world unit; 0: no surface; "
        f"65535: {MAX_DEPTH:g} or more",
        "shard-00000/rgb/*.h5": f"cameras, masks{landmarks} of the images beside them, by path",
        "shard-00000/identities.h5": "latent code, poses and nearest training row of each identity",
    }
    if plan.dataset.transforms:
        layout[f"shard-00000/rgb/{Path(name).parent}/transforms.json"] = "cameras of one identity's views"
    text = {
        "made_by": f"nerfgen {nerfgen.__version__}, nerfgen sample --dataset",
        "class": described.name,
        "identities": plan.sampling.count,
        "identities_a_shard": plan.dataset.shard_size,
        "settings": stage.parameters,
        "inputs": list(stage.inputs),
        "layout": layout,
        "conventions": {
            "shards": "a shard is complete when its folder exists",
            "world": "x to the viewer's right, y up, z towards the viewer of a frontal object, which lies "
            "approximately in the unit sphere",
            "pixels": "(0, 0) is the outer corner of the first pixel, whose centre is at (0.5, 0.5)",
            "cameras.h5": "pinhole; cam_to_world takes OpenCV camera axes (x right, y down, z forward) to the world",
            "transforms.json": "transform_matrix takes OpenGL camera axes (x right, y up, z backward) to the world",
            "depth": "along the optical axis, in world units",
            "poses": "degrees; positive yaw turns the object to the viewer's right, positive pitch shows it from "
            "above, positive roll is counter-clockwise in the image",
            "framing": f"a sphere of radius {described.reach:g} around the world origin fits the image exactly",
        },
        "too_near": {
            "at_most": near,
            "distance": "to the nearest training row: sqrt(1 - cos a), with a the angle at the mean code, in standard "
            "deviations along the principal axes of the table; about 1 for independent draws",
        },
    }
    with storage.atomic_path(stage.output) as temporary:
        temporary.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
