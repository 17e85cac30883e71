"""nerfgen: from one photograph per object to a generative 3D model of the class.

Each pipeline stage is a function in its own room and a command of the same name:
``nerfgen.landmark``, ``nerfgen.camera``, ``nerfgen.mask``, ``nerfgen.train``,
``nerfgen.generate``. The files that join them are described in ``nerfgen.artifact``.
What a trained model can do begins with :func:`nerfgen.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerfgen.api import GenerativeModel, load

__version__ = "0.1.0"
__all__ = ["GenerativeModel", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # JAX is imported when it is first needed: the command line's help needs only the version.
    if name in ("GenerativeModel", "load"):
        from nerfgen import api

        return getattr(api, name)
    raise AttributeError(f"module 'nerfgen' has no attribute {name!r}")
