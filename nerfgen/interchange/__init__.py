"""Cameras and landmarks that others already have, and ours for others: one module a format, one value between them."""

from nerfgen.interchange.annotated import bring_landmarks
from nerfgen.interchange.bring import Placing, bring
from nerfgen.interchange.formats import FORMATS, told
from nerfgen.interchange.give import give
from nerfgen.interchange.posed import PosedImages

__all__ = ["FORMATS", "Placing", "PosedImages", "bring", "bring_landmarks", "give", "told"]
