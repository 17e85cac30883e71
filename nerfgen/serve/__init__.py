"""A rendering service over HTTP: models in memory that answer many programs."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.serve.server import Server
    from nerfgen.serve.settings import Capacity, Limits

__getattr__ = lazy_imports(__name__)

__all__ = ["Capacity", "Limits", "Server"]
