"""Settings of the service: what it holds, and what one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from nerfgen.render import MAX_SAMPLES
from nerfgen.settings import MAX_COUNT, MAX_SIZE, Settings, setting


@dataclass(frozen=True)
class Capacity(Settings, title="Capacity"):
    """What a server holds, and how long it works."""

    max_models: int = setting(
        4,
        minimum=1,
        maximum=1000,
        help="Models in memory; the least recently used are dropped, and loaded again when needed.",
    )
    max_batch: int = setting(8, minimum=1, maximum=1024, help="Views that are rendered together.")
    batch_wait_ms: float = setting(
        2.0, minimum=0, maximum=1000, help="How long a view waits for others of its shape, in milliseconds."
    )
    cache_mib: float = setting(
        512.0,
        minimum=0,
        maximum=1e6,
        unit="MiB",
        help="Memory for what is computed once per object; the least recently rendered are dropped.",
    )
    queue: int = setting(64, minimum=1, maximum=100_000, help="Rendering requests that wait.")
    fit_queue: int = setting(8, minimum=1, maximum=1000, help="Fits, personalisations and meshes that wait.")
    deadline: float = setting(
        60.0,
        above=0,
        maximum=86_400,
        unit="seconds",
        help="Longest time for a request to arrive, and for a rendering to be answered.",
    )
    fit_deadline: float = setting(
        600.0,
        above=0,
        maximum=86_400,
        unit="seconds",
        help="Longest time of a fit, a personalisation or a mesh, with the time that it waits.",
    )
    grace: float = setting(
        30.0,
        minimum=0,
        maximum=86_400,
        unit="seconds",
        help="Time to finish accepted requests when the server ends.",
    )
    personal: int = setting(
        100,
        minimum=1,
        maximum=MAX_COUNT,
        help="Personalisations in memory; the least recently used are dropped.",
    )
    personal_mib: float = setting(
        256.0, above=0, maximum=1e6, unit="MiB", help="Memory that all personalisations may take."
    )


@dataclass(frozen=True)
class Limits(Settings, title="Limits of a request"):
    """The most that one request may ask for."""

    max_size: int = setting(1024, minimum=1, maximum=MAX_SIZE, unit="pixels", help="Size of a view.")
    max_views: int = setting(256, minimum=1, maximum=100_000, help="Views, or frames of a video.")
    max_rays: int = setting(
        8_388_608,
        minimum=1,
        maximum=MAX_COUNT,
        help="Rays of all views: views x pixels x rays per pixel.",
    )
    max_samples: int = setting(128, minimum=1, maximum=MAX_SAMPLES, help="Samples per ray.")
    max_codes: int = setting(256, minimum=1, maximum=100_000, help="Objects, rows or new samples.")
    max_steps: int = setting(500, minimum=1, maximum=MAX_COUNT, help="Steps of a fit, and of tuning.")
    max_resolution: int = setting(
        256, minimum=8, maximum=1024, help="Cells of a mesh's grid along the longest side."
    )
    max_images: int = setting(16, minimum=1, maximum=1000, help="Images of a personalisation.")
