"""How the images of a model were prepared: new images are prepared in the same way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nerfgen import storage
from nerfgen.camera import CameraSettings
from nerfgen.errors import InputError
from nerfgen.mask import MaskSettings, recorded_settings
from nerfgen.storage import Record

_CAMERA_FIELDS = ("depth_weight", "robust", "max_error")


@dataclass(frozen=True)
class Preparation:
    """Settings of the camera fit and of segmentation.

    The canonical keypoints and the focal length are not among them: a model holds these as they were fitted.

    Attributes:
        depth_weight, robust, max_error: of the camera fit, see :class:`nerfgen.camera.CameraSettings`.
        masks: of segmentation; None where the masks came from files, which new images do not have.
    """

    depth_weight: float = CameraSettings.depth_weight
    robust: float = CameraSettings.robust
    max_error: float = CameraSettings.max_error
    masks: MaskSettings | None = field(default_factory=MaskSettings)

    def to_json(self) -> str:
        """The value as files record it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Preparation:
        """The value that a file records; fields that an earlier version lacks have their defaults.

        Raises:
            InputError: there is a field of a later version.
        """
        recorded = json.loads(text)
        masks = recorded.pop("masks", {})
        try:
            return cls(**recorded, masks=None if masks is None else MaskSettings(**_tuples(masks)))
        except TypeError as error:
            raise InputError(
                f"the image preparation has a field that this version lacks ({error}); update nerfgen"
            ) from error


def recorded_preparation(cameras: Path, masks: Path | None) -> Preparation:
    """The settings that the camera and mask files of training images record.

    Cameras and masks that nerfgen did not fit or segment, such as imported ones, give the defaults.
    """
    fitted = _parameters(cameras)
    found: Record = {name: float(fitted[name]) for name in _CAMERA_FIELDS if name in fitted}
    segmented = {} if masks is None else _parameters(masks)
    if "method" not in segmented:
        return Preparation(**found)
    return Preparation(**found, masks=recorded_settings(segmented))


def _parameters(path: Path) -> Record:
    with storage.open_hdf5(path) as file:
        parameters = json.loads(file.attrs["parameters"])
    return parameters if isinstance(parameters, dict) else {}


def _tuples(recorded: Record) -> Record:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
