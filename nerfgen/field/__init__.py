"""Encodings, foreground and background networks. Never renders."""

from nerfgen.field.encoding import positional_encoding
from nerfgen.field.model import FieldConfig, GenerativeField

__all__ = ["FieldConfig", "GenerativeField", "positional_encoding"]
