"""The panel of files: frames, turntables, meshes, camera paths and commands to download."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from dataclasses import asdict
from pathlib import Path

import numpy as np
import viser

from nerfgen import storage
from nerfgen.geometry import Cameras
from nerfgen.image import png_bytes, save_video
from nerfgen.interchange import CameraPath, write_camera_path
from nerfgen.live import Urgency, View
from nerfgen.mesh import MESH_SCHEMA, MeshSettings, object_surface, write_surface
from nerfgen.model import Objects
from nerfgen.parallel import Progress
from nerfgen.render import (
    Kind,
    Part,
    RenderSettings,
    ViewCameras,
    png_pixels,
    render_to_file,
    samples_of,
    show,
)
from nerfgen.view.chosen import CODE_FILE, render_call, square_camera
from nerfgen.view.keyframes import path_through
from nerfgen.view.visitor import Visitor, set_value

_SIZES = ("128", "256", "512", "1024")
_RESOLUTIONS = ("64", "128", "256")
_TURN_FRAMES, _FRAMES_PER_SECOND = 48, 24.0
_MOST_KEYFRAMES = 100
_SECONDS = 300.0
_POLL_SECONDS = 0.2


class FilesPanel:
    """What a visitor downloads."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, gui = visitor, visitor.client.gui
        self._live = visitor.studio.live
        self._size = gui.add_dropdown(
            "Size", _SIZES, initial_value="512", hint="Of frames and videos, pixels"
        )
        self._button("View (PNG)", viser.Icon.PHOTO_DOWN, self._save_view)
        self._button("Turntable (MP4)", viser.Icon.MOVIE, self._save_turntable)
        self._resolution = gui.add_dropdown(
            "Mesh grid", _RESOLUTIONS, initial_value="128", hint="Cells along the longest side"
        )
        self._button("Mesh (GLB)", viser.Icon.CUBE, self._save_mesh)
        self._button("Code (HDF5)", viser.Icon.FILE_DOWNLOAD, self._save_code)
        with gui.add_folder("Camera path"):
            self._said = gui.add_markdown("No keyframes.")
            add = gui.add_button("Add this camera", icon=viser.Icon.CAMERA_PLUS)
            add.on_click(visitor.in_order(self._add_keyframe))
            clear = gui.add_button("Clear", icon=viser.Icon.TRASH)
            clear.on_click(visitor.in_order(self._clear_keyframes))
            self._seconds = gui.add_slider("Seconds a part", 0.5, 10.0, 0.5, 2.0)
            self._button("Path (nerfstudio JSON)", viser.Icon.ROUTE, self._save_path)
        self._keyframes: list[Cameras] = []
        self._button("Command for this view", viser.Icon.TERMINAL_2, self._show_command)
        self._command = gui.add_markdown("")
        self._progress = gui.add_progress_bar(0.0, animated=True, visible=False)

    def _button(self, label: str, icon: viser.IconName, call: Callable[[], None]) -> None:
        button = self._visitor.client.gui.add_button(label, icon=icon)

        def run() -> None:
            button.disabled = True
            try:
                call()
            finally:
                button.disabled = False

        button.on_click(self._visitor.beside(run))

    @property
    def _pixels(self) -> int:
        return int(self._size.value) if self._size.value in _SIZES else int(_SIZES[0])

    @property
    def _objects(self) -> Objects:
        return self._visitor.chosen.objects(self._live.model.principal)

    def _views(self, cameras: Cameras, size: int, *, with_normals: bool) -> list[View]:
        """Whole views of the object, exactly as `nerfgen render` makes them."""
        model = self._live.model
        shown = self._visitor.chosen.live(self._live)
        antialias = RenderSettings(size=size).antialias_of(model)
        return [
            View(shown, matrix, pose, Part(0, 0, size, size), samples_of(model), antialias, with_normals)
            for matrix, pose in zip(cameras.matrices(size), cameras.cam_to_world, strict=True)
        ]

    def _of_class(self, cameras: ViewCameras) -> Cameras:
        return cameras.of(self._live.model.object_class, self._live.model.distance).path.cameras

    def _save_view(self) -> None:
        look, size = self._visitor.look, self._pixels
        kind: Kind = "rgba" if look.kind == "rgb" and not look.background else look.kind
        cameras = self._of_class(square_camera(self._visitor.camera))
        views = self._visitor.studio.queue.submit(
            self._views(cameras, size, with_normals=kind == "normals"), seconds=_SECONDS
        )
        pixels, text = png_pixels(kind, views.result()[0].of_kind(kind))
        self._send(f"{self._name}.png", png_bytes(pixels, text))

    def _save_turntable(self) -> None:
        model, look = self._live.model, self._visitor.look
        cameras = self._of_class(ViewCameras(orbit=_TURN_FRAMES))
        views = self._views(cameras, self._pixels, with_normals=look.with_normals)
        limits = (model.distance - 1, model.distance + 1)
        kind: Kind = "rgba" if look.kind == "rgb" and not look.background else look.kind

        def work(progress: Progress) -> bytes:
            frames = []
            for number, view in enumerate(views):
                queue = self._visitor.studio.queue
                rendered = queue.submit([view], urgency=Urgency.SHARPENING, seconds=_SECONDS)
                try:
                    while not wait([rendered], _POLL_SECONDS).done:  # others move, or the task is cancelled
                        progress(number, len(views))
                finally:
                    rendered.cancel()
                frames.append(show(kind, rendered.result()[0].of_kind(kind), limits))
                progress(number + 1, len(views))
            return _written("turn.mp4", lambda path: save_video(path, frames, _FRAMES_PER_SECOND))

        self._run(work, f"{self._name}.mp4")

    def _save_mesh(self) -> None:
        resolution = int(self._resolution.value) if self._resolution.value in _RESOLUTIONS else 128
        meshing, shown = MeshSettings(resolution=resolution), self._visitor.chosen.live(self._live)

        def work(progress: Progress) -> bytes:
            surface = object_surface(shown.model, shown.latent, meshing)
            progress(1, 1)

            def write(path: Path) -> None:
                stage = storage.Stage(
                    path,
                    MESH_SCHEMA,
                    self._live.model.object_class,
                    parameters=asdict(meshing),
                    inputs=[self._live.record],
                )
                write_surface(stage, surface)

            return _written("mesh.glb", write)

        self._run(work, f"{self._name}.glb")

    def _save_code(self) -> None:
        model, objects, cameras = self._live.model, self._objects, self._of_class(ViewCameras(yaw=(0.0,)))

        def write(path: Path) -> None:
            stage = storage.Stage(
                path, "views/1", model.object_class, parameters={"codes": []}, inputs=[self._live.record]
            )
            render_to_file(model, objects, stage, cameras=cameras)

        self._run(lambda progress: _written(CODE_FILE, write), CODE_FILE)

    def _add_keyframe(self) -> None:
        if len(self._keyframes) < _MOST_KEYFRAMES:
            self._keyframes.append(self._of_class(square_camera(self._visitor.camera)))
        self._said.content = f"{len(self._keyframes)} keyframes."

    def _clear_keyframes(self) -> None:
        self._keyframes.clear()
        self._said.content = "No keyframes."

    def _save_path(self) -> None:
        if len(self._keyframes) < 2:
            self._visitor.notify("Camera path", "Add two cameras or more first.", failed=True)
            return
        frames = max(2, round(float(np.clip(self._seconds.value, 0.5, 10.0)) * _FRAMES_PER_SECOND))
        path = CameraPath(path_through(self._keyframes, frames), _FRAMES_PER_SECOND)
        self._send(
            "path.json", _written("path.json", lambda file: write_camera_path(file, path, self._pixels))
        )

    def _show_command(self) -> None:
        visitor = self._visitor
        call = render_call(self._live.path, visitor.chosen, visitor.camera, visitor.look, self._pixels)
        note = (
            ""
            if visitor.chosen.options is not None
            else f"\n\nSave the code first: {CODE_FILE} holds this object."
        )
        self._command.content = f"```\n{visitor.studio.as_line(call)}\n```{note}"

    @property
    def _name(self) -> str:
        """The name of a file for the object, which may come from a file of a stranger."""
        name = Path(self._visitor.chosen.start.names[0]).stem
        plain = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in name)
        return plain[:40].strip("_") or "object"

    def _run(self, work: Callable[[Progress], bytes], name: str) -> None:
        """Make a file beside the rendering of frames, then send it."""

        def watch(done: int, total: int, note: str = "") -> None:
            set_value(self._progress, 100.0 * done / max(total, 1))

        self._progress.visible = True
        job = self._visitor.run(work, watch, _SECONDS)
        try:
            self._send(name, job.future.result())
        except CancelledError:
            pass
        finally:
            self._progress.visible = False

    def _send(self, name: str, content: bytes) -> None:
        self._visitor.client.send_file_download(name, content, save_immediately=True)


def _written(name: str, write: Callable[[Path], object]) -> bytes:
    """What a function writes to a file."""
    with tempfile.TemporaryDirectory(prefix="nerfgen-") as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()
