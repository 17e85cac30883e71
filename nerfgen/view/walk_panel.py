"""The panel of walks: between two objects that the visitor picks."""

from __future__ import annotations

import threading

import viser

from nerfgen.model import Objects, concatenate, walk_between
from nerfgen.view.chosen import Chosen
from nerfgen.view.visitor import Visitor, escaped, set_value

_FRAMES = 49
_FRAMES_PER_SECOND = 12.0


class WalkPanel:
    """Two picks, a slider between them, and play."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, gui = visitor, visitor.client.gui
        self._picks: dict[str, Objects] = {}
        self._frames: Objects | None = None
        self._said = gui.add_markdown("Pick two objects: any row, new object or image that is shown.")
        for name in ("A", "B"):
            button = gui.add_button(f"Pick what is shown as {name}", icon=viser.Icon.POINT)
            button.on_click(visitor.in_order(lambda name=name: self._pick(name)))  # type: ignore[misc]
        self._slider = gui.add_slider("From A to B", 0, _FRAMES - 1, 1, 0, disabled=True)
        self._slider.on_update(visitor.in_order(self._show))
        self._play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY, disabled=True)
        self._play.on_click(visitor.in_order(self._toggle))
        self._stopping = threading.Event()
        self._player: threading.Thread | None = None
        visitor.on_leaving.append(self._stopping.set)

    def _pick(self, name: str) -> None:
        self._picks[name] = self._visitor.chosen.objects(self._visitor.studio.live.model.principal)
        self._said.content = ", ".join(
            f"{name}: {escaped(self._picks[name].names[0])}" for name in sorted(self._picks)
        )
        if len(self._picks) == 2:
            ends = concatenate([self._picks["A"], self._picks["B"]])
            self._frames = walk_between(ends, self._visitor.studio.live.model.principal, _FRAMES)
            self._slider.disabled = self._play.disabled = False

    def _show(self) -> None:
        frames, number = self._frames, min(max(int(self._slider.value), 0), _FRAMES - 1)
        if frames is None:
            return
        delta = frames.tuned.get(number)
        frame = Objects(
            [frames.names[number]],
            ["ok"],
            frames.rows[number : number + 1],
            frames.latents[number : number + 1],
            tuned={0: delta} if delta else {},
        )
        self._visitor.choose(Chosen(frame, None))

    def _toggle(self) -> None:
        if self._player and self._player.is_alive():
            self._stopping.set()
            return
        self._stopping.clear()
        self._player = threading.Thread(target=self._run, name="walk", daemon=True)
        self._player.start()

    def _run(self) -> None:
        """Show frame after frame, back and forth."""
        self._play.label = "Stop"
        number, step = int(self._slider.value), 1
        while not self._stopping.wait(1 / _FRAMES_PER_SECOND):
            if not 0 <= number + step < _FRAMES:
                step = -step
            number += step
            set_value(self._slider, number)
            try:
                self._show()
            except Exception as error:
                self._visitor.report(error)
                break
        self._play.label = "Play"
