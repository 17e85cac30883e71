"""The panel of latent axes: sliders, new objects, and how typical the object is."""

from __future__ import annotations

import numpy as np
import viser

from nerfgen.model import SampleSettings
from nerfgen.settings import MAX_SEED
from nerfgen.view import chosen as objects
from nerfgen.view.visitor import Visitor, escaped, set_value

# Axes with a slider that is always shown, and with any.
_FIRST, _MOST = 8, 32
_REACH, _STEP = 3.0, 0.05
_MOST_TRUNCATION = 3.0
# Nearer to the mean than this, in standard deviations, an object resembles no row more than others.
_NOBODY = 0.1


class LatentPanel:
    """Sliders of the principal axes, and what belongs to them."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor, gui = visitor, visitor.client.gui
        self._principal = visitor.studio.live.model.principal
        self._typical = gui.add_markdown("")
        self._gauge = gui.add_progress_bar(0.0)
        self._name = gui.add_markdown("")
        if visitor.studio.stored:
            names = [f"{place} · {each.start.names[0]}" for place, each in enumerate(visitor.studio.stored)]
            menu = gui.add_dropdown("Of the file", names, initial_value=names[0])
            menu.on_update(visitor.in_order(lambda: self._take(names.index(menu.value))))
        self._seed = gui.add_number("Seed", 0, min=0, max=MAX_SEED, step=1)
        self._truncation = gui.add_slider(
            "Truncation",
            0.0,
            _MOST_TRUNCATION,
            _STEP,
            SampleSettings().truncation,
            hint="How far new objects may lie from the mean, in standard deviations",
        )
        again = gui.add_button("New object", icon=viser.Icon.DICE, hint="Draws with the next seed")
        back = gui.add_button("Back to the mean", icon=viser.Icon.ARROW_BACK_UP)
        again.on_click(visitor.in_order(self._draw_next))
        back.on_click(visitor.in_order(lambda: visitor.choose(objects.mean(visitor.studio.live))))
        self._seed.on_update(visitor.in_order(self._draw))
        self._truncation.on_update(visitor.in_order(self._draw))
        count = min(self._principal.varying, _MOST)
        self._sliders = [self._slider(axis) for axis in range(1, min(count, _FIRST) + 1)]
        if count > _FIRST:
            with gui.add_folder(f"Axes {_FIRST + 1} to {count}", expand_by_default=False):
                self._sliders += [self._slider(axis) for axis in range(_FIRST + 1, count + 1)]
        visitor.on_choice.append(self._show)
        self._show()

    def _slider(self, axis: int) -> viser.GuiSliderHandle[float]:
        fraction = self._principal.spectrum[axis - 1]
        slider = self._visitor.client.gui.add_slider(
            f"{axis} · {fraction:.0%}" if fraction >= 0.01 else f"{axis} · {fraction:.1%}",
            -_REACH,
            _REACH,
            _STEP,
            0.0,
            hint=f"Principal axis {axis}, in standard deviations; it has {fraction:.1%} of the variance",
        )

        def move(value: float) -> None:
            set_value(slider, round(float(np.clip(value, -_REACH, _REACH)), objects.DECIMALS))
            self._visitor.move(axis, slider.value)
            self._show_typical()

        slider.on_update(self._visitor.follow(move))
        return slider

    def _take(self, place: int) -> None:
        self._visitor.choose(self._visitor.studio.stored[place], with_camera=True)

    def _draw(self) -> None:
        seed = int(np.clip(self._seed.value, 0, MAX_SEED))
        truncation = round(float(np.clip(self._truncation.value, 0, _MOST_TRUNCATION)), objects.DECIMALS)
        self._visitor.choose(objects.new(self._visitor.studio.live, seed, truncation))

    def _draw_next(self) -> None:
        set_value(self._seed, (int(np.clip(self._seed.value, 0, MAX_SEED)) + 1) % (MAX_SEED + 1))
        self._draw()

    def _show(self) -> None:
        """Sliders and words for an object that was chosen elsewhere."""
        latent = self._visitor.chosen.latent(self._principal)
        for slider, value in zip(self._sliders, self._principal.coefficients(latent[None])[0], strict=False):
            set_value(slider, round(float(np.clip(value, -_REACH, _REACH)), objects.DECIMALS))
        self._name.content = f"Shown: **{escaped(self._visitor.chosen.start.names[0])}**"
        self._show_typical()

    def _show_typical(self) -> None:
        live = self._visitor.studio.live
        latent = self._visitor.chosen.latent(self._principal)
        norm = float(np.linalg.norm(self._principal.only_varying().coefficients(latent[None])))
        nearer = float(np.searchsorted(live.typical, norm) / len(live.typical))
        distance, row = live.neighbours.nearest(latent[None])
        set_value(self._gauge, 100.0 * (1 - nearer))
        near = f" Nearest row: {row[0]}, at {distance[0]:.2f}." if norm > _NOBODY else ""
        self._typical.content = f"**Typical:** nearer to the mean than {1 - nearer:.0%} of the table.{near}"
