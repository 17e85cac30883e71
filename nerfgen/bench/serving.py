"""What HTTP costs: renderings through the service against the loop of ``render_views`` in the same process."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from nerfgen.bench.timing import Say, median_in_turns
from nerfgen.geometry import turned_cameras
from nerfgen.live import Listening
from nerfgen.render import RenderSettings, render_views
from nerfgen.serve import Capacity, Server
from nerfgen.workers import Workers

_YAWS = (-40.0, -25.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0)


def measure_serving(
    model: Path, *, clients: int, objects: int, size: int, media: str, rounds: int, seconds: float, say: Say
) -> dict[str, object]:
    """Render views of objects from several sides, by clients that ask for one view at a time, and by a loop, in turns.

    The clients are threads of another process.

    Args:
        model: the file.
        clients: that ask at a time.
        objects: training objects that are shown from eight sides each.
        size: of the views, pixels.
        media: type of the answers.
        seconds: no round begins after this time; compiling comes before the rounds.
    """
    with (
        Server([model], Listening(port=0), Capacity(queue=2 * clients)) as server,
        Workers(1, preload=[__name__]) as process,
    ):
        say("compiling")
        server.service.warm_up()
        loaded = server.service.host.get().model
        rows = np.unique(np.linspace(0, len(loaded.images) - 1, objects).astype(int)).tolist()
        cameras = turned_cameras(np.array(_YAWS), 0.0, loaded.distance)
        antialias = RenderSettings(size=size).antialias_of(loaded)
        views = [(row, yaw) for row in rows for yaw in _YAWS]
        asked = _Asked(server.port, clients, size, media, views)
        latencies: list[float] = []

        def by_http() -> None:
            latencies.extend(process.result(process.submit(_ask, [asked]))[0])

        def by_loop() -> None:
            for row in rows:
                latents = np.tile(loaded.latents[row], (len(_YAWS), 1))
                render_views(
                    loaded, latents, cameras.matrices(size), cameras.cam_to_world, size, antialias=antialias
                )

        tasks = {"http": by_http, "loop": by_loop}
        for task in tasks.values():
            task()
        latencies.clear()
        taken = median_in_turns(tasks, rounds=rounds, seconds=seconds, say=say)
    return {
        "device": jax.devices()[0].device_kind,
        "clients": clients,
        "media": media,
        "views_per_second_http": len(views) / taken["http"],
        "views_per_second_loop": len(views) / taken["loop"],
        "ratio_http_over_loop": taken["loop"] / taken["http"],
        "latency_ms_median": 1e3 * float(np.median(latencies)),
        "latency_ms_95": 1e3 * float(np.percentile(latencies, 95)),
    }


class _Asked(NamedTuple):
    """What clients ask for: one view a request, each a row and a yaw in degrees."""

    port: int
    clients: int
    size: int
    media: str
    views: list[tuple[int, float]]


def _ask(asked: _Asked) -> list[float]:
    """Ask for all views, and wait for the answers; the seconds of each request."""
    held = threading.local()

    def ask(view: tuple[int, float]) -> float:
        if not hasattr(held, "connection"):
            held.connection = http.client.HTTPConnection("127.0.0.1", asked.port)
        row, yaw = view
        body = json.dumps({"rows": [row], "cameras": {"yaw": [yaw]}, "size": asked.size})
        began = time.monotonic()
        held.connection.request(
            "POST", "/v1/render", body, {"Content-Type": "application/json", "Accept": asked.media}
        )
        answer = held.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content[:200]!r}")
        return time.monotonic() - began

    with ThreadPoolExecutor(asked.clients) as threads:
        return list(threads.map(ask, asked.views))
