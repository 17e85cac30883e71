"""Reading and checking the files that describe classes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nerfgen.errors import InputError
from nerfgen.objectclass.described import ObjectClass

CLASS_NAMES = ("face", "cat", "dog", "car", "heads", "cars")
LANDMARKERS = ("face_mesh", "trained", "")
SEGMENTERS = ("selfie", "alpha", "color", "grabcut")
_SUFFIXES = (".toml", ".json")

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
    text = class_text(given)
    if str(given) in CLASS_NAMES:
        return _Reader(text, f"{given}.toml", shipped=True).described()
    return class_from_text(text, str(given))


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
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; give the file that describes the class") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8; a class is described by a TOML or JSON file"
        ) from error


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
        x, y, z = self._numbers("bounds", 3, least=0.0)
        center_x, center_y, center_z = self._numbers("center", 3)
        return ObjectClass(
            name=self._name(),
            description=self._string("description") or f"described by {self._source}",
            landmarker=("trained" if names else "")
            if landmarker is None
            else self._one_of("landmarker", LANDMARKERS),
            segmenter=self._one_of("segmenter", SEGMENTERS),
            bounds=(x, y, z),
            reach=self._number("reach", least=0.0),
            focal=self._number("focal", least=0.0),
            largest_angle=(180.0 if all_round else 100.0)
            if largest is None
            else self._number("largest_angle", least=0.0, most=180.0),
            turn=(180.0 if all_round else 45.0)
            if turn is None
            else self._number("turn", least=0.0, most=360.0),
            mirror=bool(symmetry) if mirror is None else self._boolean("mirror"),
            landmark_names=names,
            canonical=canonical,
            symmetry=symmetry,
            unit=(unit[0], unit[1]) if unit else None,
            groups=self._groups(names),
            nearest=self._names("nearest", among=names),
            spread=self._number("spread", least=0.0),
            center=(center_x, center_y, center_z),
            mesh_index=mesh_index,
            mesh_canonical=mesh,
            text="" if self._shipped else self._text,
        )

    def _parsed(self) -> dict[str, Any]:
        try:
            values = json.loads(self._text) if self._is_json() else tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column \d+\)|\(at end of document\)", str(error))
            line = int(found[1]) if found and found[1] else self._text.count("\n") + 1
            raise InputError(
                f"{self._source}, line {line}: {str(error).partition(' (at ')[0]}; a class is described in TOML"
            ) from error
        except json.JSONDecodeError as error:
            raise InputError(
                f"{self._source}, line {error.lineno}: {error.msg}; mend the JSON there"
            ) from error
        return values

    def _is_json(self) -> bool:
        return self._text.lstrip().startswith("{")

    def _with_defaults(self) -> dict[str, Any]:
        known = (*_DEFAULTS, "name", "like", *(_SHIPPED_ONLY if self._shipped else ()))
        for key in self._own:
            if key not in known:
                self._fail((key,), f"there is no key {key}; the keys are {', '.join(known)}")
        base = _DEFAULTS
        if "like" in self._own:
            like = self._own["like"]
            if like not in CLASS_NAMES:
                self._fail(("like",), f"like must be one of {', '.join(CLASS_NAMES)}, not {like!r}")
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
        for name in points:
            if name not in names:
                self._fail(("canonical", name), f"canonical has {name}, which is no landmark of the class")
        return *none, np.array([self._vector(points[name], ("canonical", name), 3) for name in names])

    def _symmetry(self, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        pairs = self._values["symmetry"]
        seen: set[str] = set()
        if not isinstance(pairs, list):
            self._fail(("symmetry",), 'symmetry must be a list of pairs such as ["eye_left", "eye_right"]')
        for pair in pairs:
            if not (
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
            ):
                self._fail(("symmetry",), f"{pair!r} is no pair of landmarks")
            for name in pair:
                if name not in names:
                    self._fail(("symmetry",), f"symmetry has {name}, which is no landmark of the class")
                if name in seen:
                    self._fail(("symmetry",), f"symmetry has {name} twice")
                seen.add(name)
        return tuple((first, second) for first, second in pairs)

    def _groups(self, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        groups = self._values["groups"]
        if not isinstance(groups, dict):
            self._fail(("groups",), "groups must be a table of lists of landmarks")
        return {
            name: self._checked_names(members, ("groups", name), among=names)
            for name, members in groups.items()
        }

    def _name(self) -> str:
        name = self._own.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
            self._fail(("name",), 'a class needs a name of letters and digits, such as name = "mug"')
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
        key = ".".join(path)
        if not isinstance(values, list) or not all(isinstance(name, str) and name for name in values):
            self._fail(path, f"{key} must be a list of names")
        for name in values:
            if values.count(name) > 1:
                self._fail(path, f"{key} has {name} twice")
            if among is not None and name not in among:
                self._fail(path, f"{key} has {name}, which is no landmark of the class")
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
            self._fail((key,), f"{key} must be {expected}, not {value!r}")
        return value

    def _number(self, key: str, *, least: float, most: float = np.inf) -> float:
        value = self._values[key]
        if not _is_number(value) or not least < value <= most:
            to = "" if most == np.inf else f" up to {most:g}"
            self._fail((key,), f"{key} must be a number above {least:g}{to}, not {value!r}")
        return float(value)

    def _numbers(self, key: str, count: int, *, least: float = -np.inf) -> list[float]:
        values = self._vector(self._values[key], (key,), count)
        if min(values) <= least:
            self._fail((key,), f"{key} must be {count} numbers above {least:g}, not {values}")
        return values

    def _vector(self, values: Any, path: tuple[str, ...], count: int) -> list[float]:
        if not isinstance(values, list) or len(values) != count or not all(map(_is_number, values)):
            self._fail(path, f"{'.'.join(path)} must be {count} numbers, not {values!r}")
        return [float(value) for value in values]

    def _fail(self, path: tuple[str, ...], message: str) -> NoReturn:
        raise InputError(f"{self._source}, line {self._line(path)}: {message}")

    def _line(self, path: tuple[str, ...]) -> int:
        """Line of a key; 1 if it is missing or inherited."""
        start = 0
        for key in path:
            name = re.escape(key)
            form = (
                rf'"{name}"\s*:' if self._is_json() else rf"""^\s*(?:\[[^\]\n]*?)?["']?{name}["']?\s*[=\].]"""
            )
            found = re.compile(form, re.MULTILINE).search(self._text, start)
            if found is None:
                break
            start = found.start() + len(found[0]) - len(found[0].lstrip())
        return self._text.count("\n", 0, start) + 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
