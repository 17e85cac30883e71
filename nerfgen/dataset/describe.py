"""A dataset in words, for those who know nothing of nerfgen."""

from __future__ import annotations

import json
from pathlib import Path

import nerfgen
from nerfgen import artifact
from nerfgen.dataset.settings import Settings
from nerfgen.dataset.shard import view_name
from nerfgen.objectclass import ObjectClass
from nerfgen.picture import DEPTH_LEVELS, FARTHEST


def write_description(
    path: Path, settings: Settings, about: artifact.About, described: ObjectClass, near: float
) -> None:
    """Layout, conventions and settings as one JSON file.

    Args:
        near: distance to a training row up to which an identity is too near.
    """
    name = view_name(0, 0, settings.views)
    landmarks = f", landmarks ({', '.join(described.landmark_names)})" if described.landmark_names else ""
    layout = {
        f"shard-00000/rgb/{name}": "colour with background, 8 bit; folder: number of the identity, file: its view",
        f"shard-00000/mask/{name}": "opacity of the object times 255, 8 bit",
        f"shard-00000/depth/{name}": f"depth, 16 bit, in steps of 1/{DEPTH_LEVELS} world unit; 0: no surface; "
        f"65535: {FARTHEST:g} or more",
        "shard-00000/rgb/*.h5": f"cameras, masks{landmarks} of the pictures beside them, by their path",
        "shard-00000/identities.h5": "code, poses and nearest training row of each identity",
    }
    if settings.transforms:
        layout[f"shard-00000/rgb/{Path(name).parent}/transforms.json"] = "cameras of one identity's views"
    text = {
        "made_by": f"nerfgen {nerfgen.__version__}, nerfgen sample --dataset",
        "class": described.name,
        "identities": settings.identities,
        "identities_a_shard": settings.shard_size,
        "settings": about["parameters"],
        "inputs": about["inputs"],
        "layout": layout,
        "conventions": {
            "shards": "a shard is complete when its folder is there",
            "world": "x to the viewer's right, y up, z towards the viewer of a frontal object, which lies about in the "
            "unit sphere",
            "pixels": "(0, 0) is the outer corner of the first pixel, whose centre is at (0.5, 0.5)",
            "cameras.h5": "pinhole; cam_to_world takes OpenCV camera axes (x right, y down, z forward) to the world",
            "transforms.json": "transform_matrix takes OpenGL camera axes (x right, y up, z backward) to the world",
            "depth": "along the optical axis, in world units",
            "poses": "degrees; positive yaw turns the object to the viewer's right, positive pitch shows it from "
            "above, positive roll is counter-clockwise in the picture",
            "framing": f"a sphere of radius {described.reach:g} about the world's origin fits the picture exactly",
        },
        "too_near": {
            "at_most": near,
            "distance": "to the nearest training row: sqrt(1 - cos a), with a the angle at the mean code, in standard "
            "deviations along the principal axes of the table; about 1 for independent draws",
        },
    }
    with artifact.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
