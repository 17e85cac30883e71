"""The panel of the table: pages of thumbnails with numbers; a number takes the row's code and camera."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future

import cv2
import numpy as np
from jaxtyping import UInt8

from nerfgen.geometry import turned_cameras
from nerfgen.image import contact_sheet
from nerfgen.live import ClosedError, LiveModel, RenderQueue, Urgency, View
from nerfgen.model import table_objects
from nerfgen.render import Part, Views, samples_of
from nerfgen.view import chosen as objects
from nerfgen.view.visitor import Visitor, set_value

_COLUMNS, _LINES = 4, 4
_PAGE = _COLUMNS * _LINES
_SIZE = 96
# Thumbnails that are kept: 56 MB.
_KEPT = 2048

Thumbnail = UInt8[np.ndarray, "size size 3"]


class Thumbnails:
    """Small views of the table's rows, from the cameras of their images; shared by all visitors."""

    def __init__(self, live: LiveModel, queue: RenderQueue) -> None:
        self._live, self._queue = live, queue
        self._known: OrderedDict[int, Thumbnail] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, row: int) -> Thumbnail | None:
        """The thumbnail of a row if it has been rendered."""
        with self._lock:
            return self._known.get(row)

    def request(self, row: int) -> Future[list[Views]]:
        """Render a row's thumbnail; it is known when the future is done."""
        model = self._live.model
        found = table_objects(model, [row])
        cameras = found.cameras or turned_cameras(np.zeros(1), 0.0, model.distance)
        view = View(
            self._live.object(found.latents[0]),
            cameras.matrices(_SIZE)[0],
            cameras.cam_to_world[0],
            Part(0, 0, _SIZE, _SIZE),
            samples_of(model),
        )
        future = self._queue.submit([view], urgency=Urgency.SHARPENING)

        def keep(done: Future[list[Views]]) -> None:
            if done.cancelled() or done.exception():
                return
            with self._lock:
                self._known[row] = done.result()[0].rgb
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)

        future.add_done_callback(keep)
        return future


class TablePanel:
    """Pages of the table."""

    def __init__(self, visitor: Visitor, thumbnails: Thumbnails) -> None:
        self._visitor, self._thumbnails, gui = visitor, thumbnails, visitor.client.gui
        self._count = len(visitor.studio.live.model.images)
        self._row = gui.add_number("Row", 0, min=0, max=self._count - 1, step=1)
        self._row.on_update(visitor.in_order(lambda: self._take(int(self._row.value))))
        turn = gui.add_button_group("Page", ["◀", "▶"])
        turn.on_click(visitor.in_order(lambda: self._turn(-1 if turn.value == "◀" else 1)))
        self._place = gui.add_markdown("")
        self._strips, self._groups = [], []
        for _ in range(min(_LINES, -(-self._count // _COLUMNS))):
            self._strips.append(gui.add_image(_blank(_COLUMNS)))
            group = gui.add_button_group("", [" "] * _COLUMNS)
            group.on_click(visitor.in_order(lambda group=group: self._take_word(group.value)))  # type: ignore[misc]
            self._groups.append(group)
        self._page = 0
        self._pending: list[Future[list[Views]]] = []
        self._lock = threading.Lock()
        visitor.on_leaving.append(self._cancel)
        self._show()

    def _turn(self, pages: int) -> None:
        self._page = (self._page + pages) % (-(-self._count // _PAGE))
        self._show()

    def _take_word(self, word: str) -> None:
        if word.isascii() and word.isdecimal():
            self._take(int(word))

    def _take(self, row: int) -> None:
        row = min(max(row, 0), self._count - 1)
        set_value(self._row, row)
        self._visitor.choose(objects.row(self._visitor.studio.live, row), with_camera=True)

    def _cancel(self) -> None:
        with self._lock:
            for future in self._pending:
                future.cancel()
            self._pending = []

    def _show(self) -> None:
        """Show a page: what is known at once, the rest when it is rendered."""
        self._cancel()
        first = self._page * _PAGE
        last = min(first + _PAGE, self._count)
        self._place.content = f"Rows {first} to {last - 1} of {self._count}"
        for line, group in enumerate(self._groups):
            group.options = tuple(str(row) if row < self._count else " " for row in self._rows(line))
            self._paint(line)
        page = self._page
        for row in range(first, last):
            if self._thumbnails.known(row) is not None:
                continue
            try:
                future = self._thumbnails.request(row)
            except ClosedError:
                return
            with self._lock:
                self._pending.append(future)

            def paint(done: Future[list[Views]], line: int = (row - first) // _COLUMNS) -> None:
                if not done.cancelled() and not done.exception() and page == self._page:
                    self._visitor.studio.pool.submit(self._paint, line)

            future.add_done_callback(paint)

    def _rows(self, line: int) -> range:
        first = self._page * _PAGE + line * _COLUMNS
        return range(first, first + _COLUMNS)

    def _paint(self, line: int) -> None:
        self._strips[line].image = contact_sheet(
            [self._cell(row) for row in self._rows(line)], columns=_COLUMNS
        )

    def _cell(self, row: int) -> Thumbnail:
        """A thumbnail with its number; grey until it is rendered, and where there is no row."""
        known = self._thumbnails.known(row) if row < self._count else None
        cell = _blank(1) if known is None else known.copy()
        if row < self._count:
            for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(
                    cell, str(row), (4, _SIZE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, width, cv2.LINE_AA
                )
        return cell


def _blank(columns: int) -> UInt8[np.ndarray, "height width 3"]:
    return np.full((_SIZE, columns * _SIZE, 3), 230, np.uint8)
