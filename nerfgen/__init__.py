"""nerfgen: from one image per object to a generative 3D model of the class.

Each stage of the pipeline is a room with a function and a command: :mod:`nerfgen.landmark`, :mod:`nerfgen.camera`,
:mod:`nerfgen.mask`, :mod:`nerfgen.train`, :mod:`nerfgen.render`. The files that join them are described in
:mod:`nerfgen.storage`. A trained model starts with :func:`nerfgen.load`.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.api import GenerativeModel, load
    from nerfgen.inversion import FitSettings
    from nerfgen.mesh import MeshSettings
    from nerfgen.model import SampleSettings
    from nerfgen.render import RenderSettings, ViewCameras

__getattr__ = lazy_imports(__name__)

__version__ = "0.1.0"
__all__ = [
    "FitSettings",
    "GenerativeModel",
    "MeshSettings",
    "RenderSettings",
    "SampleSettings",
    "ViewCameras",
    "__version__",
    "load",
]
