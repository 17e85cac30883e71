"""Cameras that others already have, and ours for others: one module a format, one value between them."""

from nerfgen.interchange.bring import Placing, bring
from nerfgen.interchange.formats import FORMATS
from nerfgen.interchange.give import give
from nerfgen.interchange.posed import PosedImages

__all__ = ["FORMATS", "Placing", "PosedImages", "bring", "give"]
