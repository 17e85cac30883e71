"""How soon the viewer's frame follows: by a page that turns the camera and waits for frames."""

from __future__ import annotations

import queue
import time
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from nerfgen.bench.page import Page
from nerfgen.bench.timing import Say
from nerfgen.geometry import field_of_view, turned_cameras
from nerfgen.live import Listening, LiveModel
from nerfgen.view import MOVING_SIZES, Viewer, ViewerSettings, compile_programs

_SWING, _STEPS = 40.0, 200
_EVENTS_PER_SECOND = 50.0
_PATIENCE = 30.0
_SETTLE_SECONDS = 2.0
# Between single moves: the frame is being sharpened when the next one comes.
_PAUSE_SECONDS = 0.1


def measure_viewing(model: Path, *, events: int, seconds: float, size: int, say: Say) -> dict[str, object]:
    """Turn the camera of one visitor, whose page is this process.

    Args:
        model: the file.
        events: camera events whose first frame is awaited, one after the other.
        seconds: of turning without a pause.
        size: width and height of the window, pixels.
    """
    live = LiveModel(model.stem, model)
    say("compiling")
    compile_programs(live)
    angles = _SWING * np.sin(2 * np.pi * np.arange(_STEPS) / _STEPS)
    cameras = turned_cameras(angles, 0.0, live.model.distance)
    fov = float(np.radians(field_of_view(cameras.intrinsics)[0]))
    with (
        Viewer(live, Listening(port=0), ViewerSettings(browser=False)) as viewer,
        Page(viewer.url, (size, size)) as page,
    ):
        page.look(cameras.cam_to_world[0], fov)
        page.input("Seed")
        say("still, then one move at a time")
        _drain(page, _SETTLE_SECONDS)
        single, sizes = [], []
        for number in range(events):
            began = time.monotonic()
            page.look(cameras.cam_to_world[(number + 1) % _STEPS], fov)
            found = page.frames.get(timeout=_PATIENCE)
            while min(found.pixels.shape[:2]) > MOVING_SIZES[-1]:  # a tile of the view before
                found = page.frames.get(timeout=_PATIENCE)
            single.append(found.at - began)
            sizes.append(min(found.pixels.shape[:2]))
            time.sleep(_PAUSE_SECONDS)
            _drain(page, 0.0)
        began = time.monotonic()
        say("sharpening")
        sharp = _drain(page, _SETTLE_SECONDS)
        say("turning without a pause")
        arrivals, moving = _turn(page, cameras.cam_to_world, fov, seconds)
    gaps = np.diff(arrivals)
    return {
        "device": jax.devices()[0].device_kind,
        "latency_ms_median": 1e3 * float(np.median(single)),
        "latency_ms_95": 1e3 * float(np.percentile(single, 95)),
        "size_of_moving_frames": [int(min(sizes)), int(np.median(sizes))],
        "sharp_after_seconds": sharp - began,
        "frames_per_second": (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]),
        "gap_ms_95": 1e3 * float(np.percentile(gaps, 95)),
        "size_of_turning_frames": int(np.median(moving)),
    }


def _drain(page: Page, quiet: float) -> float:
    """Take frames until none came for so many seconds; when the last one came."""
    last = time.monotonic()
    while True:
        try:
            last = page.frames.get(timeout=quiet or None, block=quiet > 0).at
        except queue.Empty:
            return last


def _turn(
    page: Page, poses: Float[np.ndarray, "steps 4 4"], fov: float, seconds: float
) -> tuple[list[float], list[int]]:
    """When frames came while the camera turned, and their shorter sides."""
    began = time.monotonic()
    arrivals: list[float] = []
    sizes: list[int] = []
    number = 0
    while time.monotonic() - began < seconds:
        page.look(poses[number % len(poses)], fov)
        number += 1
        due = began + number / _EVENTS_PER_SECOND
        while (left := due - time.monotonic()) > 0:
            try:
                found = page.frames.get(timeout=left)
            except queue.Empty:
                break
            arrivals.append(found.at)
            sizes.append(min(found.pixels.shape[:2]))
    return arrivals, sizes
