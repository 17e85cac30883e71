"""How the images of a model were prepared: new images are prepared in the same way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nerfgen import storage
from nerfgen.camera import CameraSettings
from nerfgen.errors import InputError
from nerfgen.mask import MaskSettings, recorded_settings
from nerfgen.settings import SettingError, check_types, types_of
from nerfgen.storage import Record
from nerfgen.untrusted import content_of, parse_json

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
            InputError: it is no JSON object, or a field is one of a later version or has an unsuitable value.
        """
        recorded = parse_json(text, "the image preparation")
        masks = recorded.pop("masks", {}) if isinstance(recorded, dict) else recorded
        for group, values in ((cls, recorded), (MaskSettings, {} if masks is None else masks)):
            if not isinstance(values, dict):
                raise InputError("the image preparation is no JSON object; re-create the file")
            if unknown := values.keys() - types_of(group).keys():
                raise InputError(
                    f"the image preparation has a field that this version lacks ({min(unknown)}); update nerfgen"
                )
            try:
                check_types(group, values)
            except SettingError as error:
                raise InputError(f"the image preparation's {error}; re-create the file") from error
        return cls(**recorded, masks=None if masks is None else MaskSettings(**_tuples(masks)))


def recorded_preparation(cameras: Path, masks: Path | None) -> Preparation:
    """The settings that the camera and mask files of training images record.

    Cameras and masks that nerfgen did not fit or segment, such as imported ones, give the defaults.
    """
    fitted = _parameters(cameras)
    found: Record = {name: fitted[name] for name in _CAMERA_FIELDS if name in fitted}
    with content_of(cameras, "re-create it"):
        check_types(CameraSettings, found)
    segmented = {} if masks is None else _parameters(masks)
    if masks is None or "method" not in segmented:
        return Preparation(**found)
    with content_of(masks, "re-create it"):
        return Preparation(**found, masks=recorded_settings(segmented))


def _parameters(path: Path) -> Record:
    with storage.open_hdf5(path) as file:
        parameters = parse_json(str(file.attrs.get("parameters", "{}")), f"{path}: attribute parameters")
    return parameters if isinstance(parameters, dict) else {}


def _tuples(recorded: Record) -> Record:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in recorded.items()}
