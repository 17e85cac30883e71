"""Networks that others have published: MediaPipe's two interfaces, the model files of the newer one, image features,
face embeddings."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.pretrained.efficientnet import (
        FEATURE_CHANNELS,
        FEATURE_STRIDES,
        FEATURE_WEIGHTS,
        MIN_FEATURE_SIZE,
        FeatureNetwork,
        FeatureParameters,
        find_feature_weights,
        image_features,
        load_feature_network,
        pooled_features,
    )
    from nerfgen.pretrained.face_embedding import ALIGNED_LANDMARKS, EMBEDDING_WEIGHTS, FaceEmbedding
    from nerfgen.pretrained.feature_distance import perceptual_distance
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
    from nerfgen.pretrained.torch_file import read_torch_arrays

__getattr__ = lazy_imports(__name__)

__all__ = [
    "ALIGNED_LANDMARKS",
    "EMBEDDING_WEIGHTS",
    "FACE_LANDMARKER",
    "FEATURE_CHANNELS",
    "FEATURE_STRIDES",
    "FEATURE_WEIGHTS",
    "MIN_FEATURE_SIZE",
    "MODEL_FILES",
    "SELFIE_SEGMENTER",
    "TASKS",
    "FaceEmbedding",
    "FeatureNetwork",
    "FeatureParameters",
    "ModelFile",
    "ModelState",
    "PublishedNetwork",
    "fetch_model",
    "find_feature_weights",
    "find_model",
    "image_features",
    "installation_warnings",
    "load_feature_network",
    "mediapipe_interface",
    "missing_library",
    "model_states",
    "perceptual_distance",
    "pooled_features",
    "read_torch_arrays",
    "remedy",
    "silenced",
]
