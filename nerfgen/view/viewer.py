"""The viewer: one model, and a page for each visitor."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import viser

from nerfgen.errors import NerfgenError
from nerfgen.geometry import field_of_view
from nerfgen.inversion import FitSettings, find_networks
from nerfgen.live import Access, Jobs, Listening, LiveModel, RenderQueue, Uploads, local_url
from nerfgen.parallel import Progress, silent
from nerfgen.provenance import Call
from nerfgen.render import ObjectRenderer, samples_of
from nerfgen.view import chosen as objects
from nerfgen.view.files_panel import FilesPanel
from nerfgen.view.image_panel import ImagePanel
from nerfgen.view.latent_panel import LatentPanel
from nerfgen.view.look_panel import LookPanel, front_camera
from nerfgen.view.screen import MOST_RAYS, SHARP_SIZES
from nerfgen.view.settings import ViewerSettings
from nerfgen.view.table_panel import TablePanel, Thumbnails
from nerfgen.view.visitor import Studio, Visitor
from nerfgen.view.walk_panel import WalkPanel
from nerfgen.view.web import ViewerServer

# That prepare and send frames.
_THREADS = 2
_COLOR = (196, 90, 20)


def compile_programs(live: LiveModel, progress: Progress = silent) -> None:
    """Compile all that frames of a model's objects need, before the first visitor waits for it."""
    shown = objects.mean(live).live(live)
    renderer = ObjectRenderer(shown.model, shown.latent)
    for done, with_normals in enumerate((False, True)):
        renderer.compile(MOST_RAYS, samples=samples_of(live.model), with_normals=with_normals)
        progress(done + 1, 2)


class Viewer:
    """A viewer of a model that runs until its end as a context manager.

    Args:
        live: the model.
        listening: where, and who may visit.
        settings: what is shown.
        fitting: how visitors' images are fitted.
        as_line: a command as the words of a command line.
        warn: called with what the user should know, such as a download.
        debug: print the tracebacks of faults.

    Raises:
        InputError: nothing can listen at the address, or the file of codes has no objects of the model.

    Attributes:
        port: that it listens at.
        token: that the address of the page has to carry; empty where none is needed.
        visitors: by viser's number of their connection.
    """

    def __init__(
        self,
        live: LiveModel,
        listening: Listening = Listening(),
        settings: ViewerSettings = ViewerSettings(),
        fitting: FitSettings = FitSettings(),
        as_line: Callable[[Call], str] = str,
        *,
        warn: Callable[[str], None] = lambda line: None,
        debug: bool = False,
    ) -> None:
        access = Access.of(listening.host, listening.allow_host, listening.given_token)
        self._live, self._max_bytes = live, listening.max_bytes
        self.visitors: dict[int, Visitor] = {}
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            name = live.model.object_class.name
            self._server = ViewerServer(
                listening.host,
                listening.port,
                access,
                max_upload=listening.max_bytes,
                label=f"nerfgen · {name}",
            )
            stack.callback(self._server.stop)
            queue = stack.enter_context(RenderQueue())
            jobs = stack.enter_context(Jobs(queue))
            uploads = stack.enter_context(Uploads(max_bytes=listening.max_bytes))
            pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
            stored = objects.stored(live, settings.codes) if settings.codes else []
            sizes = tuple(size for size in SHARP_SIZES if size <= settings.size)
            lacking = _lacking(live, fitting, warn)
            self._studio = Studio(
                live, queue, jobs, uploads, pool, fitting, lacking, as_line, sizes, stored, debug
            )
            self._thumbnails = Thumbnails(live, queue)
            self._arrange()
            self._stack = stack.pop_all()
        self.port, self.token = self._server.get_port(), access.token
        self._host = listening.host

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *error: object) -> None:
        for visitor in list(self.visitors.values()):
            visitor.leave()
        self._stack.close()

    @property
    def url(self) -> str:
        """The address of the page on this machine."""
        return f"{local_url(self._host, self.port)}/" + (f"?token={self.token}" if self.token else "")

    def _arrange(self) -> None:
        """What is the same for all visitors, and what happens when one comes or leaves."""
        server = self._server
        server.gui.configure_theme(
            show_logo=False, show_share_button=False, control_width="large", brand_color=_COLOR
        )
        server.scene.set_up_direction("+y")
        camera = front_camera(self._live.model)
        server.initial_camera.position = camera.cam_to_world[0, :3, 3]
        server.initial_camera.look_at = np.zeros(3)
        server.initial_camera.fov = float(np.radians(field_of_view(camera.intrinsics)[0]))
        server.on_client_connect(self._welcome)
        server.on_client_disconnect(self._farewell)

    def _welcome(self, client: viser.ClientHandle) -> None:
        visitor = Visitor(self._studio, client)
        with self._lock:
            self.visitors[client.client_id] = visitor
        try:
            self._furnish(client, visitor)
        finally:
            if client.client_id not in self._server.get_clients():  # they left before they were known here
                self._farewell(client)

    def _furnish(self, client: viser.ClientHandle, visitor: Visitor) -> None:
        """Give a visitor panels and the first frame."""
        tabs = client.gui.add_tab_group()
        with tabs.add_tab("Object"):
            LatentPanel(visitor)
        with tabs.add_tab("Table"):
            TablePanel(visitor, self._thumbnails)
        with tabs.add_tab("Walk"):
            WalkPanel(visitor)
        with tabs.add_tab("Image"):
            ImagePanel(visitor, self._max_bytes)
        with tabs.add_tab("Look"):
            LookPanel(visitor)
        with tabs.add_tab("Files"):
            FilesPanel(visitor)
        visitor.look_through(visitor.chosen.camera or front_camera(self._live.model))
        visitor.refresh()

    def _farewell(self, client: viser.ClientHandle) -> None:
        with self._lock:
            visitor = self.visitors.pop(client.client_id, None)
        if visitor:
            visitor.leave()


def _lacking(live: LiveModel, fitting: FitSettings, warn: Callable[[str], None]) -> str:
    """Why images can't be fitted here, found before the first visitor comes; empty where they can."""
    try:
        find_networks(live.model, landmarker=fitting.landmarker, models=fitting.models, warn=warn)
    except NerfgenError as error:
        return str(error)
    return ""
