"""A rendering service over HTTP: models in memory that answer many programs."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.serve.server import Server
    from nerfgen.serve.settings import Capacity, Limits
    from nerfgen.serve.wire import JSON, NPZ, OWNER_HEADER, UNUSABLE, pack, pack_delta, unpack, unpack_delta

__getattr__ = lazy_imports(__name__)

__all__ = [
    "JSON",
    "NPZ",
    "OWNER_HEADER",
    "UNUSABLE",
    "Capacity",
    "Limits",
    "Server",
    "pack",
    "pack_delta",
    "unpack",
    "unpack_delta",
]
