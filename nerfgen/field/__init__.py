"""Encodings, foreground and background networks, and trained models as files. Never renders."""

from nerfgen.field.encoding import positional_encoding
from nerfgen.field.model import FieldConfig, GenerativeField
from nerfgen.field.planes import roughness
from nerfgen.field.stored import FirstGuess, Model, load_model, model_file, save_model
from nerfgen.field.tunable import added, tunable

__all__ = [
    "FieldConfig",
    "FirstGuess",
    "GenerativeField",
    "Model",
    "added",
    "load_model",
    "model_file",
    "positional_encoding",
    "roughness",
    "save_model",
    "tunable",
]
