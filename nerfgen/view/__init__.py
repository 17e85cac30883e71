"""The viewer in the browser: frames of a model's objects that follow the mouse."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.view.screen import MOVING_SIZES
    from nerfgen.view.settings import ViewerSettings
    from nerfgen.view.viewer import Viewer, compile_programs
    from nerfgen.view.visitor import SHARP_QUALITY

__getattr__ = lazy_imports(__name__)

__all__ = ["MOVING_SIZES", "SHARP_QUALITY", "Viewer", "ViewerSettings", "compile_programs"]
