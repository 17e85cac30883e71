"""The panel of images: a visitor's own, fitted so that the sliders move it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import viser
from jaxtyping import UInt8

from nerfgen import storage
from nerfgen.errors import NerfgenError
from nerfgen.image import UnreadableImageError
from nerfgen.inversion import (
    FittedImages,
    NoUsableImageError,
    PreparedImages,
    fit_prepared,
    prepare_images,
    tune_prepared,
)
from nerfgen.live import Job
from nerfgen.model import Objects
from nerfgen.parallel import Progress
from nerfgen.view.chosen import Chosen
from nerfgen.view.visitor import Visitor, escaped, set_value

Result = TypeVar("Result")

# Between two reports of progress.
_REPORT_SECONDS = 0.2


@dataclass(frozen=True)
class _Fitted:
    prepared: PreparedImages
    found: FittedImages


class ImagePanel:
    """Upload, progress, result, tuning."""

    def __init__(self, visitor: Visitor, max_bytes: int) -> None:
        self._visitor, gui = visitor, visitor.client.gui
        described = visitor.studio.live.model.object_class
        self._upload = gui.add_upload_button(
            "Choose an image",
            icon=viser.Icon.PHOTO_UP,
            mime_type="image/*",
            disabled=bool(visitor.studio.lacking),
            hint=f"An image of a {described.name}, up to {max_bytes >> 20} MiB; it stays on the server",
        )
        lacking = visitor.studio.lacking and f"Images can't be fitted here: {visitor.studio.lacking}."
        self._said = gui.add_markdown(
            escaped(lacking)
            or f"An image of one {described.name} is fitted in some seconds; then the sliders move it."
        )
        self._progress = gui.add_progress_bar(0.0, animated=True, visible=False)
        self._cancel = gui.add_button("Cancel", icon=viser.Icon.X, visible=False)
        self._preview = gui.add_image(np.full((8, 8, 3), 255, np.uint8), visible=False)
        self._tune = gui.add_button(
            "Tune to this image",
            icon=viser.Icon.ADJUSTMENTS,
            disabled=True,
            hint="Adjusts the networks to the image: nearer to it from the front, a little less sure from the side",
        )
        self._job: Job[Any] | None = None
        self._fitted: _Fitted | None = None
        self._lock = threading.Lock()
        self._upload.on_upload(visitor.beside(self._fit))
        self._cancel.on_click(visitor.in_order(self._stop))
        self._tune.on_click(visitor.beside(self._start_tuning))

    def _stop(self) -> None:
        if job := self._job:
            job.cancel()

    def _fit(self) -> None:
        """Fit the image that was just uploaded."""
        studio = self._visitor.studio
        if studio.lacking:  # the page does not offer it
            return
        self._say("Reading the image…")
        try:
            image = studio.uploads.decode(self._upload.value.content)
        except UnreadableImageError as error:
            self._say(f"This image can't be used ({error.status}): {error.reason}.")
            return

        def work(progress: Progress) -> _Fitted:
            self._say("Finding the landmarks, the camera and the mask…")
            model, fitting = studio.live.model, studio.fitting
            prepared = prepare_images(
                model,
                [image],
                landmarker=fitting.landmarker,
                models=fitting.models,
                workers=fitting.workers,
            )
            progress(0, 1)
            return _Fitted(prepared, fit_prepared(model, prepared, fitting, progress))

        def done(fitted: _Fitted) -> None:
            self._fitted = fitted
            self._take(fitted.found.objects, fitted.prepared.framed.rgb[0])
            self._tune.disabled = False

        self._run(work, done)

    def _start_tuning(self) -> None:
        fitted, studio = self._fitted, self._visitor.studio
        if fitted is None:
            return

        def work(progress: Progress) -> Objects:
            self._say("Tuning the networks…")
            return tune_prepared(studio.live.model, fitted.prepared, fitted.found, studio.fitting, progress)

        def done(objects: Objects) -> None:
            self._take(objects, fitted.prepared.framed.rgb[0])

        self._run(work, done)

    def _run(self, work: Callable[[Progress], Result], done: Callable[[Result], None]) -> None:
        """Run a task of this panel, with its progress, and use its result; one at a time."""
        if not self._lock.acquire(blocking=False):
            self._visitor.notify("One at a time", "Wait for the task that runs, or cancel it.", failed=True)
            return
        try:
            self._progress.visible = self._cancel.visible = True
            self._upload.disabled = self._tune.disabled = True
            job = self._job = self._visitor.run(work, self._watch())
            done(job.future.result())
        except CancelledError:
            self._say("Cancelled.")
        except NoUsableImageError as error:
            self._say(self._refusal(error.status[0]))
        except NerfgenError as error:
            self._say(f"That did not work: {error}.")
        finally:
            self._progress.visible = self._cancel.visible = False
            self._upload.disabled = False
            self._tune.disabled = self._fitted is None
            self._job = None
            self._lock.release()

    def _watch(self) -> Progress:
        """Show progress now and then."""
        reported = 0.0

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal reported
            if time.monotonic() - reported > _REPORT_SECONDS or done == total:
                reported = time.monotonic()
                set_value(self._progress, 100.0 * done / max(total, 1))
                if note:
                    self._say(f"Step {done} of {total}…")

        return progress

    def _take(self, objects: Objects, framed: UInt8[np.ndarray, "size size 3"]) -> None:
        """Show a fitted object, from its image's camera."""
        quality, is_tuned = float(objects.extra["fit_psnr"][0]), bool(objects.tuned)
        if objects.status[0] not in storage.USABLE:
            self._say(self._refusal(objects.status[0]))
            return
        named = replace(objects, names=["your image, tuned" if is_tuned else "your image"])
        self._visitor.choose(Chosen(named, None), with_camera=True)
        self._preview.image = framed
        self._preview.visible = True
        self._say(
            f"Fitted{' and tuned' if is_tuned else ''}: {quality:.1f} dB. Move the sliders, or turn it."
        )

    def _refusal(self, status: str) -> str:
        name = self._visitor.studio.live.model.object_class.name
        return f"This image can't be fitted ({status}): {storage.STATUSES[status]}. Try another image of one {name}."

    def _say(self, words: str) -> None:
        self._said.content = escaped(words)
