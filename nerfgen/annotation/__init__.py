"""Landmarks that people have annotated, read from the formats in which they are found."""

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.read import FORMATS, format_of, read

__all__ = ["FORMATS", "Annotations", "format_of", "read"]
