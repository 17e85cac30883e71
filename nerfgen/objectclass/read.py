"""Reading and checking the files that describe classes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nerfgen.errors import InputError
from nerfgen.objectclass.described import ObjectClass
from nerfgen.untrusted import excerpt, parse_json, printable, read_text_input

CLASS_NAMES = ("face", "cat", "dog", "car", "heads", "cars")
LANDMARKERS = ("face_mesh", "trained", "")
SEGMENTERS = ("selfie", "alpha", "color", "grabcut")
_SUFFIXES = (".toml", ".json")
# Far more than any class needs; what reads them takes time that grows with their square.
_MOST_CHARACTERS, _MOST_LANDMARKS, _LONGEST_NAME = 1 << 18, 5000, 80
# Keys of classes have two parts at most (canonical.NAME). TOML's reader takes memory that grows with their square.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){9}""")
# World units and angles: numbers beyond these have no meaning, and their squares overflow.
_SMALLEST, _LARGEST = 1e-6, 1e6

# Keys that a file may omit. ``canonical`` may be "estimate", or a table with a point for each landmark.
_DEFAULTS: dict[str, Any] = {
    "description": "",
    "landmarks": [],
    "landmarker": None,
    "segmenter": "grabcut",
    "bounds": [1.0, 1.0, 1.0],
    "reach": 1.0,
    "focal": 2.0,
    "largest_angle": None,
    "turn": None,
    "mirror": None,
    "canonical": "estimate",
    "symmetry": [],
    "unit": [],
    "groups": {},
    "nearest": [],
    "spread": 0.7,
    "center": [0.0, 0.0, 0.0],
}
# Dense points are in an estimator's numbering, so only classes that ship have them.
_SHIPPED_ONLY = ("mesh", "mesh_landmarks")


def object_class(given: str | Path | ObjectClass) -> ObjectClass:
    """The class of that name, or the one that a ``.toml`` or ``.json`` file describes.

    Raises:
        InputError: there is none, or the file has an error; the message names its line.
    """
    if isinstance(given, ObjectClass):
        return given
    if str(given) in CLASS_NAMES:
        return shipped_class(str(given))
    return class_from_text(class_text(given), str(given))


def shipped_class(name: str) -> ObjectClass:
    """The class of that name, as a file of others may give it: never a path.

    Raises:
        InputError: no such class ships.
    """
    if name not in CLASS_NAMES:
        raise InputError(
            f"there is no object class {excerpt(name)}; the classes are {', '.join(CLASS_NAMES)}"
        )
    return _Reader(_shipped_text(name), f"{name}.toml", shipped=True).described()


def class_text(given: str | Path) -> str:
    """The file that describes a class: of that name, or of that path.

    Raises:
        InputError: there is none, or it is no text.
    """
    if str(given) in CLASS_NAMES:
        return _shipped_text(str(given))
    path = Path(given)
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"there is no object class {str(given)!r}; the classes are {', '.join(CLASS_NAMES)}, "
            "or give a file that describes one, such as ./mug.toml"
        )
    if not path.exists():
        raise InputError(f"{path} does not exist; give the file that describes the class")
    return read_text_input(path)


def class_from_text(text: str, source: str) -> ObjectClass:
    """The class that the text of a file describes.

    Args:
        source: what to call the text in errors.

    Raises:
        InputError: the text has an error; the message names its line.
    """
    return _Reader(text, source, shipped=False).described()


def _shipped_text(name: str) -> str:
    return (files("nerfgen.objectclass") / f"{name}.toml").read_text(encoding="utf-8")


class _Reader:
    """Reads one file; errors name the line."""

    def __init__(self, text: str, source: str, *, shipped: bool) -> None:
        self._text, self._source, self._shipped = text, source, shipped
        if len(text) > _MOST_CHARACTERS:
            raise InputError(
                f"{source} has {len(text):,} characters; describe a class in {_MOST_CHARACTERS:,} or fewer"
            )
        self._own = self._parsed()
        self._values = self._with_defaults()

    def described(self) -> ObjectClass:
        """The class, every value checked."""
        names = self._names("landmarks")
        landmarker = self._values["landmarker"]
        mesh_index, mesh, canonical = self._canonical(names)
        symmetry = self._symmetry(names)
        mirror = self._values["mirror"]
        unit = self._names("unit", among=names, count=2)
        turn = self._values["turn"]
        largest = self._values["largest_angle"]
        all_round = not names
        x, y, z = self._sizes("bounds", 3)
        center_x, center_y, center_z = self._vector(self._values["center"], ("center",), 3)
        return ObjectClass(
            name=self._name(),
            description=printable(self._string("description")) or f"described by {self._source}",
            landmarker=("trained" if names else "")
            if landmarker is None
            else self._one_of("landmarker", LANDMARKERS),
            segmenter=self._one_of("segmenter", SEGMENTERS),
            bounds=(x, y, z),
            reach=self._number("reach"),
            focal=self._number("focal"),
            largest_angle=(180.0 if all_round else 100.0)
            if largest is None
            else self._number("largest_angle", most=180.0),
            turn=(180.0 if all_round else 45.0) if turn is None else self._number("turn", most=360.0),
            mirror=bool(symmetry) if mirror is None else self._boolean("mirror"),
            landmark_names=names,
            canonical=canonical,
            symmetry=symmetry,
            unit=(unit[0], unit[1]) if unit else None,
            groups=self._groups(names),
            nearest=self._names("nearest", among=names),
            spread=self._number("spread"),
            center=(center_x, center_y, center_z),
            mesh_index=mesh_index,
            mesh_canonical=mesh,
            text="" if self._shipped else self._text,
        )

    def _parsed(self) -> dict[str, Any]:
        if self._is_json():
            # An object, because it begins with a brace.
            values: dict[str, Any] = parse_json(self._text, self._source)
            return values
        if _DEEP_KEY.search(self._text):
            raise InputError(f"{self._source}: a key has too many parts; a class is described in TOML")
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column \d+\)|\(at end of document\)", str(error))
            line = int(found[1]) if found and found[1] else self._text.count("\n") + 1
            reason = printable(str(error).partition(" (at ")[0])
            raise InputError(
                f"{self._source}, line {line}: {reason}; a class is described in TOML"
            ) from error
        except (ValueError, RecursionError) as error:
            reason = (
                "a number has too many digits" if isinstance(error, ValueError) else "it is nested too deeply"
            )
            raise InputError(f"{self._source}: {reason}; a class is described in TOML") from error

    def _is_json(self) -> bool:
        return self._text.lstrip().startswith("{")

    def _with_defaults(self) -> dict[str, Any]:
        known = (*_DEFAULTS, "name", "like", *(_SHIPPED_ONLY if self._shipped else ()))
        for key in self._own:
            if key not in known:
                self._fail(
                    (key,),
                    f"there is no key {_short(key)}; the keys are {', '.join(known)}",
                )
        base = _DEFAULTS
        if "like" in self._own:
            like = self._own["like"]
            if like not in CLASS_NAMES:
                self._fail(("like",), f"like must be one of {', '.join(CLASS_NAMES)}, not {excerpt(like)}")
            inherited = _Reader(_shipped_text(like), f"{like}.toml", shipped=True)._values
            # Keys about landmarks of the base class do not apply to other landmarks.
            of_landmarks = (*_SHIPPED_ONLY, "canonical", "symmetry", "unit", "groups", "nearest")
            drop = of_landmarks if "landmarks" in self._own else ()
            base = {**_DEFAULTS, **{key: value for key, value in inherited.items() if key not in drop}}
        return {**base, **self._own}

    def _canonical(self, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices and points of the mesh, and the landmarks' canonical points."""
        if "mesh" in self._values and "canonical" not in self._own:
            text = (files("nerfgen.objectclass") / self._values["mesh"]).read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if not line.startswith(("#", "index"))]
            table = np.loadtxt(lines, delimiter=",", ndmin=2)
            index = table[:, 0].astype(np.int64)
            place = {int(value): row for row, value in enumerate(index)}
            rows = [place[self._values["mesh_landmarks"][name]] for name in names]
            return index, table[:, 1:], table[rows, 1:]
        none = np.zeros(0, np.int64), np.zeros((0, 3))
        points = self._values["canonical"]
        if points == "estimate":
            return *none, np.zeros((0, 3))
        if not isinstance(points, dict):
            self._fail(("canonical",), 'canonical must be "estimate" or a table of landmarks')
        for name in names:
            if name not in points:
                self._fail(("canonical",), f"canonical lacks the landmark {name}")
        known = frozenset(names)
        for name in points:
            if name not in known:
                self._fail(
                    ("canonical", name),
                    f"canonical has {_short(name)}, which is no landmark of the class",
                )
        canonical = np.array([self._vector(points[name], ("canonical", name), 3) for name in names])
        if len(names) > 1 and np.linalg.matrix_rank(canonical - canonical.mean(0), tol=_SMALLEST) < 2:
            self._fail(("canonical",), "canonical has all landmarks on one line, which determines no camera")
        return *none, canonical.reshape(-1, 3)

    def _symmetry(self, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        pairs = self._values["symmetry"]
        seen: set[str] = set()
        known = frozenset(names)
        if not isinstance(pairs, list):
            self._fail(("symmetry",), 'symmetry must be a list of pairs such as ["eye_left", "eye_right"]')
        for pair in pairs:
            if not (
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
            ):
                self._fail(("symmetry",), f"{excerpt(pair)} is no pair of landmarks")
            for name in pair:
                if name not in known:
                    self._fail(
                        ("symmetry",),
                        f"symmetry has {_short(name)}, which is no landmark of the class",
                    )
                if name in seen:
                    self._fail(("symmetry",), f"symmetry has {name} twice")
                seen.add(name)
        return tuple((first, second) for first, second in pairs)

    def _groups(self, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        groups = self._values["groups"]
        if not isinstance(groups, dict):
            self._fail(("groups",), "groups must be a table of lists of landmarks")
        for name in groups:
            if not _is_name(name):
                self._fail(("groups",), f"groups has the name {excerpt(name)}; give a short printable one")
        return {
            name: self._checked_names(members, ("groups", name), among=names)
            for name, members in groups.items()
        }

    def _name(self) -> str:
        name = self._own.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]{0,79}", name):
            self._fail(
                ("name",), 'a class needs a name of letters and digits (80 at most), such as name = "mug"'
            )
        if not self._shipped and name in CLASS_NAMES:
            self._fail(("name",), f"{name} is the name of a class that ships; choose another one")
        return name

    def _names(
        self, key: str, *, among: Sequence[str] | None = None, count: int | None = None
    ) -> tuple[str, ...]:
        return self._checked_names(self._values[key], (key,), among=among, count=count)

    def _checked_names(
        self,
        values: Any,
        path: tuple[str, ...],
        *,
        among: Sequence[str] | None = None,
        count: int | None = None,
    ) -> tuple[str, ...]:
        key = printable(".".join(path))
        if not isinstance(values, list) or not all(map(_is_name, values)):
            self._fail(path, f"{key} must be a list of names of up to {_LONGEST_NAME} printable characters")
        if len(values) > _MOST_LANDMARKS:
            self._fail(path, f"{key} has {len(values):,} names; the most are {_MOST_LANDMARKS:,}")
        seen: set[str] = set()
        known = None if among is None else frozenset(among)
        for name in values:
            if name in seen:
                self._fail(path, f"{key} has {name} twice")
            if known is not None and name not in known:
                self._fail(path, f"{key} has {name}, which is no landmark of the class")
            seen.add(name)
        if count and values and len(values) != count:
            self._fail(path, f"{key} must be {count} landmarks, not {len(values)}")
        return tuple(values)

    def _string(self, key: str) -> str:
        return self._checked(key, lambda value: isinstance(value, str), "a text")

    def _boolean(self, key: str) -> bool:
        return self._checked(key, lambda value: isinstance(value, bool), "true or false")

    def _one_of(self, key: str, choices: tuple[str, ...]) -> str:
        allowed = " or ".join(repr(choice) for choice in choices)
        return self._checked(key, lambda value: value in choices, allowed)

    def _checked(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self._values[key]
        if not fits(value):
            self._fail((key,), f"{key} must be {expected}, not {excerpt(value)}")
        return value

    def _number(self, key: str, *, most: float = _LARGEST) -> float:
        value = self._values[key]
        if not _is_number(value) or not _SMALLEST < value <= most:
            self._fail(
                (key,), f"{key} must be a number above {_SMALLEST:g} up to {most:g}, not {excerpt(value)}"
            )
        return float(value)

    def _sizes(self, key: str, count: int) -> list[float]:
        values = self._vector(self._values[key], (key,), count)
        if min(values) <= _SMALLEST:
            self._fail((key,), f"{key} must be {count} numbers above {_SMALLEST:g}, not {values}")
        return values

    def _vector(self, values: Any, path: tuple[str, ...], count: int) -> list[float]:
        if not isinstance(values, list) or len(values) != count or not all(map(_is_number, values)):
            self._fail(
                path, f"{'.'.join(path)} must be {count} numbers up to {_LARGEST:g}, not {excerpt(values)}"
            )
        return [float(value) for value in values]

    def _fail(self, path: tuple[str, ...], message: str) -> NoReturn:
        raise InputError(f"{self._source}, line {self._line(path)}: {message}")

    def _line(self, path: tuple[str, ...]) -> int:
        """Line of a key; 1 if it is missing or inherited."""
        start = 0
        for key in path:
            name = re.escape(key)
            form = (
                rf'"{name}"\s*:'
                if self._is_json()
                else rf"""^[ \t]*(?:\[[^\]\n]*?)?["']?{name}["']?\s*[=\].]"""
            )
            found = re.compile(form, re.MULTILINE).search(self._text, start)
            if found is None:
                break
            start = found.start() + len(found[0]) - len(found[0].lstrip())
        return self._text.count("\n", 0, start) + 1


def _is_name(value: Any) -> bool:
    """Whether a value names a landmark: in one line, and without what a terminal would obey."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and printable(value) == value


def _short(name: str) -> str:
    """A name of any length as it is quoted in a message."""
    return printable(name[:_LONGEST_NAME])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST  # so neither NaN nor infinite
