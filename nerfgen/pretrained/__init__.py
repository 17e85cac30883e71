"""Networks that others have published: MediaPipe's two interfaces, and the model files of the newer one."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.pretrained.installation import (
        TASKS,
        installation_warnings,
        mediapipe_interface,
        missing_library,
        remedy,
        silenced,
    )
    from nerfgen.pretrained.model_files import (
        FACE_LANDMARKER,
        MODEL_FILES,
        SELFIE_SEGMENTER,
        ModelFile,
        ModelState,
        fetch_model,
        find_model,
        model_states,
    )
    from nerfgen.pretrained.published_network import PublishedNetwork

__getattr__ = lazy_imports(__name__)

__all__ = [
    "FACE_LANDMARKER",
    "MODEL_FILES",
    "SELFIE_SEGMENTER",
    "TASKS",
    "ModelFile",
    "ModelState",
    "PublishedNetwork",
    "fetch_model",
    "find_model",
    "installation_warnings",
    "mediapipe_interface",
    "missing_library",
    "model_states",
    "remedy",
    "silenced",
]
