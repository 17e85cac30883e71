"""TPUs that are not here: their published figures, and programs compiled for them.

Never knows what is computed.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.tpu.chips import CHIPS, Chip, chip_of
    from nerfgen.tpu.compilation import Needs, program_needs, topology_mesh
    from nerfgen.tpu.costs import COLLECTIVES, OTHER, Cost, program_costs
    from nerfgen.tpu.program import Program

__getattr__ = lazy_imports(__name__)

__all__ = [
    "CHIPS",
    "COLLECTIVES",
    "OTHER",
    "Chip",
    "Cost",
    "Needs",
    "Program",
    "chip_of",
    "program_costs",
    "program_needs",
    "topology_mesh",
]
