"""Settings of the viewer."""

from __future__ import annotations

from dataclasses import dataclass

from nerfgen.settings import Settings, setting


@dataclass(frozen=True)
class ViewerSettings(Settings, title="Viewer"):
    """What the viewer shows."""

    size: int = setting(
        512,
        minimum=128,
        maximum=1024,
        unit="pixels",
        help="Shorter side up to which frames are sharpened when nothing moves: 256, 512 or 1024.",
    )
    codes: str | None = setting(
        None,
        metavar="FILE[:NUMBERS]",
        help="Show objects of a file that this model made, such as fitted.h5 or anna.personal.h5:0; the first of them "
        "when a visitor comes.",
    )
    browser: bool = setting(
        True, option="--browser/--no-browser", help="Open the viewer in the browser, where there is one."
    )
