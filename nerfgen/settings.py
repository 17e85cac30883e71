"""Settings as values: small frozen dataclasses whose fields carry their range, unit and help.

A group is written once and used three times: Python functions take it as an argument, the command line makes options of
its fields (:mod:`nerfgen.cli.options`), and files record it::

    @dataclass(frozen=True)
    class RenderSettings(Settings, title="Rendering"):
        size: int | None = setting(None, minimum=1, unit="pixels", help="Size of a view; as trained by default.")
"""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from nerfgen.errors import InputError

# Largest values of settings that have no narrower bound.
MAX_COUNT = 1_000_000_000
MAX_SIZE = 16_384
MAX_WEIGHT = 1e6
MAX_LENGTH = 1e6
MAX_MINUTES = 1e6
MAX_WORKERS = 4096
# JAX ignores further bits: larger seeds would repeat the runs of smaller ones.
MAX_SEED = 2**32 - 1
# Largest number that float32 holds.
_LARGEST = 3.4e38


class SettingError(InputError):
    """A setting has a value that it can't have; the message names the field in backticks."""


@dataclass(frozen=True)
class Setting:
    """What is known of one field.

    Attributes:
        help: what it means, in a sentence.
        minimum, maximum: the range of numbers, ends included.
        above, below: the range of numbers, ends excluded.
        choices: the values of a text that are allowed, where the type does not say it.
        unit: of the value.
        option: names on the command line, where they are not the field's own: ``("-n", "--num-samples")``.
        metavar: how the command line calls the value.
        default_text: how help shows the default, where it is not a plain value.
        zero_is_default: on the command line 0 stands for "not given".
        parse: makes the value from a word of the command line, given the field's name and the word.
        hidden_option: further names that work on the command line and that help leaves out.
    """

    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    option: tuple[str, ...] = ()
    metavar: str = ""
    default_text: str = ""
    zero_is_default: bool = False
    parse: Callable[[str, str], Any] | None = None
    hidden_option: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise :class:`SettingError` for a number out of range."""
        if isinstance(value, tuple | list):
            for each in value:
                self.check(name, each)
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"`{name}` has to be finite, not {value}")
        for bound, words, is_outside in (
            (self.minimum, "at least", operator.lt),
            (self.above, "above", operator.le),
            (self.maximum, "at most", operator.gt),
            (self.below, "below", operator.ge),
        ):
            if bound is not None and is_outside(value, bound):
                raise SettingError(f"`{name}` has to be {words} {_shown(bound)}, not {_shown(value)}")


def _shown(number: float) -> str:
    """A number for a message, whatever its size."""
    if isinstance(number, int) and number.bit_length() <= 64:
        return str(number)
    return f"a number of {number.bit_length()} bits" if isinstance(number, int) else f"{number:g}"


def setting(default: Any = dataclasses.MISSING, *, option: str | tuple[str, ...] = (), **known: Any) -> Any:
    """A dataclass field with a :class:`Setting`.

    Args:
        default: without it the field has to be given.
        option: one name on the command line, or several.
        known: further attributes of :class:`Setting`.
    """
    names = (option,) if isinstance(option, str) else option
    return dataclasses.field(default=default, metadata={"setting": Setting(option=names, **known)})


class Settings:
    """Base of settings groups: frozen dataclasses that check their values when they are made.

    Choices and the ranges of numbers are checked. Subclasses with rules between fields extend ``__post_init__``.

    Attributes:
        title: of the group, in help and documentation.
    """

    title: ClassVar[str] = ""

    def __init_subclass__(cls, title: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if title:
            cls.title = title

    def __post_init__(self) -> None:
        for name, known in settings_of(type(self)).items():
            value = getattr(self, name)
            if value is None:
                continue
            allowed = choices_of(type(self), name)
            if allowed and value not in allowed:
                raise SettingError(f"`{name}` is one of {', '.join(map(str, allowed))}, not {value!r}")
            known.check(name, value)


def settings_of(group: type) -> dict[str, Setting]:
    """What is known of every field of a group, in their order."""
    return _settings_of(group)


@cache
def _settings_of(group: type) -> dict[str, Setting]:
    fields = dataclasses.fields(group)
    return {field.name: field.metadata.get("setting", Setting()) for field in fields}


def types_of(group: type) -> dict[str, object]:
    """The type of every field of a group."""
    return _types_of(group)


@cache
def _types_of(group: type) -> dict[str, object]:
    hints = typing.get_type_hints(group)
    return {field.name: hints[field.name] for field in dataclasses.fields(group)}


def choices_of(group: type, name: str) -> tuple[Any, ...]:
    """The values that a field may have: those of a ``Literal``, or its ``choices``; empty for other fields."""
    known = settings_of(group)[name].choices
    if known:
        return known
    kind = plain_type(types_of(group)[name])
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def plain_type(kind: Any) -> Any:
    """A type without ``None``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return parts[0] if len(parts) == 1 else kind
    return kind


def check_types(group: type, values: Mapping[str, Any]) -> None:
    """Check that values of fields, as JSON holds them, have the fields' types, and that numbers are finite.

    Raises:
        SettingError: one has another type.
    """
    for name, value in values.items():
        kind = types_of(group)[name]
        if not _has_type(kind, value):
            raise SettingError(f"`{name}` has an unsuitable value, {value!r}")
        allowed = choices_of(group, name)
        if allowed and value is not None and value not in allowed:
            raise SettingError(f"`{name}` is one of {', '.join(map(str, allowed))}, not {value!r}")


def _has_type(kind: Any, value: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_has_type(part, value) for part in parts)
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        own = parts[:1] * len(value) if parts[1:] == (...,) and isinstance(value, list | tuple) else parts
        return isinstance(value, list | tuple) and len(value) == len(own) and all(map(_has_type, own, value))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str if kind is Path else kind)


def parse_count(text: str) -> int:
    """A number that is written with the digits 0 to 9 alone.

    Raises:
        ValueError: other words, or more digits than any count has.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError(f"{text!a} is not a count")
    return int(text)


def parse_vector(name: str, text: str) -> tuple[float, float, float]:
    """Three numbers with commas between.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    try:
        x, y, z = map(float, text.split(","))
    except ValueError as error:
        raise SettingError(f"`{name}` {text}: give three numbers such as 0,1.5,3") from error
    if not math.isfinite(x + y + z):
        raise SettingError(f"`{name}` {text}: coordinates have to be finite")
    return x, y, z
