"""What options of ``render`` and ``sample`` mean: which cameras see the objects, what is written beside the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nerfgen.errors import InputError

if TYPE_CHECKING:
    from nerfgen.cli.runtime import Reporter
    from nerfgen.field import Model
    from nerfgen.generate.camera_path import CameraPath
    from nerfgen.generate.pictures import Kind
    from nerfgen.objectclass import ObjectClass

_YAW, _PITCH = "-40,-20,0,20,40", "0"


class Chosen(NamedTuple):
    """Cameras that were chosen.

    Attributes:
        path: the cameras, in time.
        parameters: what determines them, with the model and the inputs, as a file records it.
        inputs: records of the files that they come from.
    """

    path: CameraPath
    parameters: dict[str, Any]
    inputs: list[dict[str, Any]]


@dataclass(frozen=True)
class CameraChoice:
    """The options of one command that say where the cameras are.

    Raises:
        InputError: two of them exclude each other, or one is no number.
    """

    yaw: str = ""
    pitch: str = ""
    orbit: int = 0
    distance: float = 0.0
    fov: float = 0.0
    position: str = ""
    look: str = ""
    path: Path | None = None

    def __post_init__(self) -> None:
        given = {
            "--path": self.path,
            "--position": self.position,
            "--orbit": self.orbit,
            "--yaw": self.yaw,
            "--pitch": self.pitch,
            "--distance": self.distance,
            "--fov": self.fov,
            "--look": self.look,
        }
        exclude(given, "--path", *(name for name in given if name != "--path"))
        exclude(given, "--position", "--orbit", "--yaw", "--pitch", "--distance")
        exclude(given, "--orbit", "--yaw")
        if self.look and not self.position:
            raise InputError("--look needs --position X,Y,Z, where the camera stands")
        for option, number in (("--distance", self.distance), ("--fov", self.fov)):
            if not math.isfinite(number):
                raise InputError(f"{option} {number}: give a finite number")
        _, pitch = self._angles()
        if self.orbit and len(pitch) > 1:
            raise InputError(f"--pitch {self.pitch}: --orbit stays at one pitch; give one number")
        if self.position:
            self._place()

    def of(self, described: ObjectClass, distance: float) -> Chosen:
        """The cameras for a model of a class.

        Args:
            distance: of the model's own cameras, world units.

        Raises:
            InputError: ``path`` is no camera path.
        """
        from nerfgen import artifact
        from nerfgen.generate.camera_path import CameraPath, read_camera_path
        from nerfgen.geometry import angle_grid, looking, orbit_angles, turned_cameras

        if self.path:
            read = read_camera_path(self.path)
            return Chosen(read, {"path": self.path.name}, [artifact.file_record(self.path)])
        if self.position:
            position, direction = self._place()
            told = {"position": position, "look": direction, "fov": self.fov}
            return Chosen(CameraPath(looking(position, direction, self.fov)), told, [])
        yaw, pitch = self._angles()
        told = {"pitch": pitch, "distance": self.distance or distance, "fov": self.fov}
        if self.orbit:
            angles = orbit_angles(self.orbit, described.turn, *pitch)
            told["orbit"] = self.orbit
        else:
            angles = angle_grid(yaw, pitch)
            told["yaw"] = yaw
        cameras = turned_cameras(angles[:, 0], angles[:, 1], self.distance or distance, self.fov)
        return Chosen(CameraPath(cameras, closed=bool(self.orbit)), told, [])

    def _angles(self) -> tuple[list[float], list[float]]:
        """All yaws, all pitches."""
        return parse_angles("--yaw", self.yaw or _YAW), parse_angles("--pitch", self.pitch or _PITCH)

    def _place(self) -> tuple[list[float], list[float]]:
        """Position and viewing direction."""
        position = parse_vector("--position", self.position)
        if not self.look and not any(position):
            raise InputError(
                f"--position {self.position} is the origin; say with --look X,Y,Z where it looks"
            )
        direction = parse_vector("--look", self.look) if self.look else [-value for value in position]
        if not any(direction):
            raise InputError(f"--look {self.look} is no direction; give one number that is not 0")
        return position, direction


@dataclass(frozen=True)
class PictureChoice:
    """The options of one command that say which pictures are written beside the file, and of what.

    Raises:
        InputError: an option says how something is to be written that is not written.
    """

    png: Path | None = None
    sheet: Path | None = None
    video: Path | None = None
    save_path: Path | None = None
    kinds: str = ""
    fps: float = 0.0

    def __post_init__(self) -> None:
        if self.kinds and not (self.png or self.sheet or self.video):
            raise InputError(
                f"--kinds {self.kinds} says what --png, --sheet and --video show; give one of them too"
            )

        if self.fps and not (self.video or self.save_path):
            raise InputError(
                f"--fps {self.fps:g} is the speed of --video and --save-path; give one of them too"
            )

    def check(self, path: CameraPath) -> None:
        """Raise :class:`InputError` if something can't be written as its name says, before anything is rendered."""
        from nerfgen.picture import check_picture_name, check_video_name

        self._kinds()
        if self.sheet:
            check_picture_name(self.sheet)
        if self.video:
            check_video_name(self.video, self.fps or path.frames_per_second)

    def write(
        self,
        views_file: Path,
        model: Model,
        data: Path,
        path: CameraPath,
        reporter: Reporter,
        *,
        over: Literal["views", "objects"] = "views",
    ) -> None:
        """What was asked for, from a finished views file.

        Args:
            data: folder that holds the photographs of the model's rows.
            path: the cameras of the views, without the photographs' own.
            over: what a video's time runs over.
        """
        from nerfgen import artifact
        from nerfgen.generate import pictures, write_camera_path
        from nerfgen.picture import FARTHEST, save_picture, save_video

        kinds = self._kinds()
        path = path._replace(frames_per_second=self.fps or path.frames_per_second)
        with artifact.reading(views_file, "views/1") as file:
            size = file["rgb"].shape[2]
            if self.png:
                written, beyond = pictures.save_pngs(file, self.png, kinds)
                reporter.say(f"wrote {written} pictures to {self.png}")
                if beyond:
                    reporter.say(
                        f"{beyond} pixels are farther than the {FARTHEST:.1f} world units that a depth PNG can say and "
                        f"have its largest value; {views_file} has their depth"
                    )
            if self.sheet:
                rows = [model.images[row] for row in file["row"][:] if row >= 0]
                absent = [name for name in rows if not (data / name).is_file()]
                if absent:
                    reporter.say(
                        f"{len(absent)} photographs are not beside the model ({absent[0]}): grey in {self.sheet}"
                    )
                photographs = list(pictures.input_photographs(file, model, data, size))
                save_picture(self.sheet, pictures.views_sheet(file, kinds, photographs))
                reporter.say(f"wrote {self.sheet}")
            if self.video:
                save_video(self.video, pictures.video_frames(file, kinds, over), path.frames_per_second)
                reporter.say(f"wrote {self.video}")
        if self.save_path:
            write_camera_path(self.save_path, path, size)
            reporter.say(f"wrote {len(path.cameras.cam_to_world)} cameras to {self.save_path}")

    def _kinds(self) -> tuple[Kind, ...]:
        from nerfgen.generate.pictures import KINDS

        words = [word.strip() for word in (self.kinds or "rgb").split(",")]
        unknown = [word for word in words if word not in KINDS]
        if unknown:
            raise InputError(f"--kinds {self.kinds}: {unknown[0]!r} is none of {', '.join(KINDS)}")
        return tuple(kind for word in dict.fromkeys(words) for kind in KINDS if kind == word)


def exclude(given: Mapping[str, object], option: str, *others: str) -> None:
    """Raise :class:`InputError` if an option is given together with one of others.

    Args:
        given: what each option was given; what is false was not given.
    """
    clash = [other for other in others if given[option] and given[other]]
    if clash:
        raise InputError(f"{option} and {clash[0]} exclude each other; give one of them")


def parse_angles(option: str, text: str) -> list[float]:
    """Degrees from words such as ``-40,0,40`` and ``-40:40:9`` (start, stop and count, both ends included).

    Raises:
        InputError: other words.
    """
    angles: list[float] = []
    for part in text.split(","):
        start, *rest = part.split(":")
        try:
            first = float(start)
            if rest:
                stop, count = rest
                last, steps = float(stop), int(count) - 1
                if steps < 1:
                    raise ValueError(f"a range of {count}")
                angles += [first + (last - first) * step / steps for step in range(steps + 1)]
            else:
                angles.append(first)
        except ValueError as error:
            raise InputError(
                f"{option} {text}: give degrees such as -40,0,40, or -40:40:9 for nine from -40 to 40"
            ) from error
    if not all(map(math.isfinite, angles)):
        raise InputError(f"{option} {text}: angles are finite")
    return angles


def parse_vector(option: str, text: str) -> list[float]:
    """Three numbers with commas between.

    Raises:
        InputError: other words.
    """
    try:
        x, y, z = map(float, text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}: give three numbers such as 0,1.5,3") from error
    if not math.isfinite(x + y + z):
        raise InputError(f"{option} {text}: coordinates are finite")
    return [x, y, z]
