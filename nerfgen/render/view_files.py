"""Images, videos and camera paths beside a views file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nerfgen.render.settings import KINDS, Kind
from nerfgen.settings import SettingError, Settings, setting

if TYPE_CHECKING:
    from nerfgen.interchange import CameraPath
    from nerfgen.model import Model


def parse_kinds(name: str, text: str) -> tuple[Kind, ...]:
    """Kinds from words with commas between; each once.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in KINDS:
            raise SettingError(f"`{name}` {text}: {word!r} is not one of {', '.join(KINDS)}")
    return tuple(kind for word in dict.fromkeys(words) for kind in KINDS if kind == word)


@dataclass(frozen=True)
class ViewFiles(Settings, title="Images and videos"):
    """What is written beside a views file."""

    png: Path | None = setting(None, metavar="FOLDER", help="Also write every view as a PNG.")
    sheet: Path | None = setting(
        None,
        metavar="FILE.png",
        help="Also write a contact sheet with a row for each object, its input image first.",
    )
    video: Path | None = setting(
        None,
        metavar="FILE.mp4|.gif",
        help="Also write the views as a video, with all objects side by side.",
    )
    save_path: Path | None = setting(
        None, metavar="FILE.json", help="Also write the cameras as a camera path in nerfstudio's JSON."
    )
    kinds: tuple[Kind, ...] | None = setting(
        None,
        parse=parse_kinds,
        metavar="KINDS",
        default_text="rgb",
        help="What `png`, `sheet` and `video` show, such as rgb,depth: rgb, rgba (without background), depth, normals, "
        "opacity.",
    )
    fps: float | None = setting(
        None,
        minimum=0.01,
        maximum=120,
        zero_is_default=True,
        help="Frames per second of `video` and `save_path`; by default those of the camera path, else 24.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kinds is not None and not (self.png or self.sheet or self.video):
            raise SettingError("`kinds` has an effect on `png`, `sheet` and `video` only; give one of them")
        if self.fps is not None and not (self.video or self.save_path):
            raise SettingError("`fps` has an effect on `video` and `save_path` only; give one of them")

    def check(self, path: CameraPath) -> None:
        """Raise :class:`InputError` if a file can't be written as its name says, before anything is rendered."""
        from nerfgen.image import check_image_name, check_video_name

        if self.sheet:
            check_image_name(self.sheet)
        if self.video:
            check_video_name(self.video, self.fps or path.frames_per_second)

    def write(
        self,
        views_file: Path,
        model: Model | None,
        data: Path,
        path: CameraPath,
        say: Callable[[str], None],
        *,
        over: Literal["views", "objects"] = "views",
    ) -> None:
        """Write the files that were asked for, from a finished views file.

        Args:
            model: of the objects; None if it is elsewhere: a sheet then has no images of table rows.
            data: folder that holds the images of the model's rows.
            path: the cameras of the views, without the images' own.
            say: told of each file.
            over: what a video's time runs over.
        """
        from nerfgen import storage
        from nerfgen.image import MAX_DEPTH, save_image, save_video
        from nerfgen.interchange import write_camera_path
        from nerfgen.render import figures

        kinds = self.kinds or ("rgb",)
        path = path._replace(frames_per_second=self.fps or path.frames_per_second)
        with storage.reading(views_file, "views/1") as file:
            size = file["rgb"].shape[2]
            if self.png:
                written, beyond = figures.save_pngs(file, self.png, kinds)
                say(f"wrote {written} images to {self.png}")
                if beyond:
                    say(
                        f"{beyond} pixels are farther than {MAX_DEPTH:.1f} world units, the limit of a depth PNG, and "
                        f"have its largest value; {views_file} has their depth"
                    )
            if self.sheet:
                rows = [model.images[row] for row in file["row"][:] if row >= 0] if model else []
                absent = [name for name in rows if not (data / name).is_file()]
                if absent:
                    say(f"{len(absent)} images are not beside the model ({absent[0]}): grey in {self.sheet}")
                inputs = list(figures.input_images(file, model, data, size))
                save_image(self.sheet, figures.views_sheet(file, kinds, inputs), figure=True)
                say(f"wrote {self.sheet}")
            if self.video:
                save_video(self.video, figures.video_frames(file, kinds, over), path.frames_per_second)
                say(f"wrote {self.video}")
        if self.save_path:
            write_camera_path(self.save_path, path, size)
            say(f"wrote {len(path.cameras.cam_to_world)} cameras to {self.save_path}")
