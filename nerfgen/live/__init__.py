"""Models in memory that answer many at once: one queue of renderings, long tasks beside it, and who may ask."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.live.access import Access, is_loopback, listening_socket, local_name, local_url
    from nerfgen.live.jobs import Job, Jobs
    from nerfgen.live.model_host import LiveModel, LiveObject, ModelHost, TunedModel, model_name
    from nerfgen.live.render_queue import (
        BusyError,
        ClosedError,
        ExpiredError,
        RenderQueue,
        Statistics,
        Urgency,
        View,
    )
    from nerfgen.live.settings import TOKEN_VARIABLE, Listening
    from nerfgen.live.uploads import Uploads

__getattr__ = lazy_imports(__name__)

__all__ = [
    "TOKEN_VARIABLE",
    "Access",
    "BusyError",
    "ClosedError",
    "ExpiredError",
    "Job",
    "Jobs",
    "Listening",
    "LiveModel",
    "LiveObject",
    "ModelHost",
    "RenderQueue",
    "Statistics",
    "TunedModel",
    "Uploads",
    "Urgency",
    "View",
    "is_loopback",
    "listening_socket",
    "local_name",
    "local_url",
    "model_name",
]
