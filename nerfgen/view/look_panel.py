"""The panel of looks: what is shown of the object, and the training cameras around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import viser
from jaxtyping import Float, UInt8
from viser import transforms

from nerfgen import storage
from nerfgen.geometry import Cameras, evenly_chosen, field_of_view, turned_cameras, window_intrinsics
from nerfgen.live import LiveModel
from nerfgen.model import Model
from nerfgen.provenance import unchanged_input
from nerfgen.render import Kind, framed_image
from nerfgen.view import chosen as objects
from nerfgen.view.visitor import Visitor

_KINDS: dict[str, Kind] = {"Colour": "rgb", "Depth": "depth", "Normals": "normals", "Opacity": "opacity"}
_NONE = "One view"
_MOST_CAMERAS = 512
_THUMBNAIL = 32
_SCALE = 0.12
_AFTER, _BEFORE = (224, 122, 31), (140, 140, 140)


class LookPanel:
    """What is shown, and training cameras as frusta."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, gui = visitor, visitor.client.gui
        self._kind = gui.add_dropdown("Show", list(_KINDS))
        self._second = gui.add_dropdown("Beside it", [_NONE, *_KINDS])
        self._split = gui.add_slider("Border", 0.0, 1.0, 0.01, 0.5, visible=False)
        self._background = gui.add_checkbox("Background", True)
        for handle in (self._kind, self._second, self._split, self._background):
            handle.on_update(visitor.in_order(self._apply))
        front = gui.add_button("Look from the front", icon=viser.Icon.FOCUS_CENTERED)
        front.on_click(
            visitor.in_order(lambda: visitor.look_through(front_camera(visitor.studio.live.model)))
        )
        self._frusta: list[viser.CameraFrustumHandle] = []
        initial = initial_cameras(visitor.studio.live)
        self._after = gui.add_checkbox("Training cameras", False, hint="A click on one takes its row")
        self._before = gui.add_checkbox(
            "Before refinement",
            False,
            disabled=initial is None,
            hint="Cameras as landmarks gave them, from the cameras file beside the model"
            if initial is not None
            else "The cameras file that the model was trained with is not beside it",
        )
        self._initial = initial
        self._after.on_update(visitor.in_order(self._show_cameras))
        self._before.on_update(visitor.in_order(self._show_cameras))

    def _apply(self) -> None:
        second = _KINDS.get(self._second.value)
        self._split.visible = second is not None
        self._visitor.set_look(
            kind=_KINDS.get(self._kind.value, "rgb"),
            second=second,
            split=float(np.clip(self._split.value, 0, 1)),
            background=bool(self._background.value),
        )

    def _show_cameras(self) -> None:
        if not self._frusta:
            self._visitor.step_back()  # from among them
        for frustum in self._frusta:
            frustum.remove()
        model = self._visitor.studio.live.model
        rows = evenly_chosen(np.arange(len(model.images)), _MOST_CAMERAS)
        cameras = Cameras(window_intrinsics(model.intrinsics, model.window, 1), model.cam_to_world)
        self._frusta = []
        if self._after.value:
            data = self._visitor.studio.live.path.parent
            for row in rows:
                frame = framed_image(model, int(row), data, _THUMBNAIL)
                frustum = self._frustum("after", cameras, model.cam_to_world, int(row), _AFTER, frame)
                frustum.on_click(self._taker(int(row)))
        if self._before.value and self._initial is not None:
            for row in rows:
                self._frustum("before", cameras, self._initial, int(row), _BEFORE, None)
        self._visitor.shows_depth = bool(self._frusta)
        self._visitor.refresh()

    def _frustum(
        self,
        group: str,
        cameras: Cameras,
        poses: Float[np.ndarray, "rows 4 4"],
        row: int,
        color: tuple[int, int, int],
        frame: UInt8[np.ndarray, "size size 3"] | None,
    ) -> viser.CameraFrustumHandle:
        handle = self._visitor.client.scene.add_camera_frustum(
            f"/{group}/{row}",
            fov=float(np.radians(field_of_view(cameras.intrinsics[row]))),
            aspect=1.0,
            scale=_SCALE,
            thickness=0.002,
            color=color,
            image=frame,
            wxyz=transforms.SO3.from_matrix(poses[row][:3, :3]).wxyz,
            position=poses[row][:3, 3],
        )
        self._frusta.append(handle)
        return handle

    def _taker(self, row: int) -> Callable[[Any], None]:
        return self._visitor.in_order(
            lambda: self._visitor.choose(objects.row(self._visitor.studio.live, row), with_camera=True)
        )


def front_camera(model: Model) -> Cameras:
    """The camera that views of turned objects start from."""
    return turned_cameras(np.zeros(1), 0.0, model.distance)


def initial_cameras(live: LiveModel) -> Float[np.ndarray, "rows 4 4"] | None:
    """Poses of the rows' images before training refined them; None unless the cameras file is beside the model."""
    path = unchanged_input(live.path, "cameras/1")
    if path is None:
        return None
    with storage.reading(path, "cameras/1") as file:
        places = storage.positions(live.model.images, storage.strings(file["image"]))
        return np.asarray(file["cam_to_world"][:])[places] if (places >= 0).all() else None
