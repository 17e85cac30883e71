"""Landmarks that people have annotated, read from the formats in which they are found."""

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.read import read

__all__ = ["Annotations", "read"]
