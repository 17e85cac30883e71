"""Options from settings: a command's settings groups are spread out as options, and put together again when it runs."""

from __future__ import annotations

import enum
import functools
import inspect
import itertools
import math
import os
import re
import select
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nerfgen.errors import NerfgenError
from nerfgen.settings import SettingError, Settings, choices_of, plain_type, settings_of, types_of

# How each field of the running command is written on its command line; for messages.
_names: dict[str, str] = {}
_given: dict[str, str] = {}
_commands: dict[str, Any] = {}
# Ends the name of the parameter of a hidden option.
_HIDDEN = "__hidden"


@dataclass(frozen=True)
class Title:
    """Marks a settings group that has another title in a command's help."""

    text: str


@dataclass(frozen=True)
class Fields:
    """Marks a parameter that receives some fields of a group, by name.

    Attributes:
        group: the settings.
        names: the fields, which have an option each.
        title: of the options in help.
    """

    group: type[Settings]
    names: tuple[str, ...]
    title: str

    def value(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the parameter receives, from the values of all options."""
        return {name: _plain(self.group, name, values) for name in self.names}


@dataclass(frozen=True)
class Changes(Fields):
    """Marks a parameter that receives changes of a group: only the fields that were given, by name.

    All fields of the group are changed by ``--set NAME=VALUE`` too.
    """

    def value(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the parameter receives, from the values of all options."""
        # 0 has always stood for "not given" here.
        given = {name: _plain(self.group, name, values) for name in self.names if values[name]}
        return {**_named_values(values["values"] or []), **given}


class Command(TyperCommand):
    """A command that checks its words before it reads them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See :func:`check_word`."""
        for before, word in itertools.pairwise([self.name or "", *args]):
            check_word(word, before)
        return super().parse_args(ctx, args)


def check_word(word: str, before: str) -> None:
    """Refuse a word of the command line that is empty, as an unset variable of a shell gives, or that names no file.

    Args:
        before: the word before it, for the message.

    Raises:
        SettingError: it is such a word.
    """
    name, equals, value = (
        word.partition("=") if word.startswith("--") else (f"the word after {before}", "=", word)
    )
    if equals and not value.strip():
        raise SettingError(f"{name} is empty; give a value, or leave the option out")
    if "\0" in word:
        raise SettingError(f"{name} has a NUL character; leave it out")
    try:
        os.fsencode(word)
    except UnicodeEncodeError as error:
        raise SettingError(f"{name} is not Unicode; correct it") from error


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A function as typer needs it: every parameter that is a settings group becomes the options of its fields.

    Errors of the library name fields in backticks, such as `` `micro_batch` ``; here they are raised with the names of
    the options.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parts = [
        _Part(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    parameters = [
        inspect.Parameter("_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter for part in parts for parameter in part.parameters()),
    ]

    @functools.wraps(function)
    def run(_context: typer.Context, **values: Any) -> None:
        _remember(_context, parts)
        translate_errors(lambda: function(**{part.name: part.value(values) for part in parts}))

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def translate_errors(call: Callable[[], None]) -> None:
    """Run a command's function; its errors are raised as the command line words them."""
    try:
        call()
    except NerfgenError as error:
        error.args = (as_options(str(error)),)
        raise
    except BrokenPipeError as error:
        if _stdout_is_read():  # then it is the pipe to another program, such as a video encoder
            raise NerfgenError(f"another program ended before its input did ({error})") from error
        raise


def as_options(text: str) -> str:
    """A message of the library with its fields named as the running command's line does."""
    return re.sub(r"`(\w+)`", lambda found: _names.get(found[1], found[0]), text)


def given() -> dict[str, str]:
    """What stands on the command line of the running command: how a user writes it, by field or parameter."""
    return dict(_given)


def commands() -> dict[str, Any]:
    """All commands of the running program, by name."""
    return dict(_commands)


def refuse(why: str, *names: str) -> None:
    """Refuse options and arguments that would have no effect.

    Args:
        why: the rest of the message, after the option.
        names: fields and parameters.

    Raises:
        SettingError: one of them was given.
    """
    for name in names:
        if name in _given:
            raise SettingError(f"{_given[name]} {why}")


def exclude(name: str, *others: str) -> None:
    """Refuse an option together with any of others.

    Raises:
        SettingError: both were given.
    """
    for other in others:
        if name in _given and other in _given:
            raise SettingError(f"{_given[name]} and {_given[other]} exclude each other; give one of them")


class _Part:
    """One parameter of a command's function."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        self.name, self.annotation, self.default = name, annotation, default
        kind, *marks = (
            typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
        )
        self.group = kind if isinstance(kind, type) and issubclass(kind, Settings) else None
        self.fields = next((mark for mark in marks if isinstance(mark, Fields)), None)
        titles = [mark.text for mark in marks if isinstance(mark, Title)]
        self.title = next(iter(titles), self.group.title if self.group else "")

    def parameters(self) -> list[inspect.Parameter]:
        """The options that the parameter becomes."""
        if isinstance(self.fields, Changes):
            group, title = self.fields.group, self.fields.title
            info = typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="Change any other field of the recipe; may be repeated.",
                rich_help_panel=title,
            )
            changes = [
                each for name in self.fields.names for each in _options(group, name, title, is_change=True)
            ]
            return [*changes, _parameter("values", Annotated[list[str] | None, info], None)]
        if self.fields:
            return [
                each
                for name in self.fields.names
                for each in _options(self.fields.group, name, self.fields.title)
            ]
        if self.group:
            return [
                each for name in settings_of(self.group) for each in _options(self.group, name, self.title)
            ]
        return [_parameter(self.name, self.annotation, self.default)]

    def value(self, values: Mapping[str, Any]) -> Any:
        """What the function receives, from the values of all options."""
        if self.fields:
            return self.fields.value(values)
        if self.group:
            return self.group(**{name: _plain(self.group, name, values) for name in settings_of(self.group)})
        value = values[self.name]
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"`{self.name}` has to be finite, not {value}")
        return value


def _options(
    group: type[Settings], name: str, title: str, *, is_change: bool = False
) -> list[inspect.Parameter]:
    """One field as options: its own, and a hidden one where it has further names."""
    shown = _option(group, name, title, is_change=is_change)
    hidden = settings_of(group)[name].hidden_option
    if not hidden:
        return [shown]
    kind, _ = typing.get_args(shown.annotation)[:2]
    info = typer.Option(*hidden, hidden=True)
    return [shown, _parameter(f"{name}{_HIDDEN}", Annotated[kind | None, info], None)]


def _option(group: type[Settings], name: str, title: str, *, is_change: bool) -> inspect.Parameter:
    """One field as an option; that of a change may be absent."""
    known = settings_of(group)[name]
    kind, default = types_of(group)[name], _default(group, name)
    plain: Any
    choices = () if known.parse else choices_of(group, name)
    if known.parse:
        plain, optional, default = str, True, None
    elif choices:
        members = {re.sub(r"\W", "_", str(choice)): choice for choice in choices}
        plain, optional = enum.StrEnum(name, members), default is None
    else:
        plain, optional = plain_type(kind), default is None
        if typing.get_origin(plain) is tuple and typing.get_args(plain)[1:] == (...,):
            plain, optional, default = list[typing.get_args(plain)[0]], True, None  # type: ignore[misc]
    if is_change:
        optional, default = True, None
    if isinstance(default, str) and choices:
        default = plain(default)
    annotation = Annotated[  # type: ignore[valid-type]
        plain | None if optional else plain,
        _info(group, plain, name, default, title, is_change),
    ]
    return _parameter(name, annotation, default)


def _info(group: type[Settings], kind: Any, name: str, default: Any, title: str, is_change: bool) -> Any:
    known = settings_of(group)[name]
    declared = known.option or _declared(name, is_switch=kind is bool and default is not False)
    least = next((bound for bound in (known.minimum, known.above) if bound is not None), None)
    most = next((bound for bound in (known.maximum, known.below) if bound is not None), None)
    if known.zero_is_default or (is_change and least is not None):
        least = 0
    if kind is int:
        least, most = (None if bound is None else int(bound) for bound in (least, most))
    shown = known.default_text or bool(default is not None and default is not MISSING and kind is not bool)
    return typer.Option(
        *declared,
        help=re.sub(r"`(\w+)`", lambda found: _option_name(group, found[1]), known.help),
        min=least,
        max=most,
        metavar=known.metavar or known.unit.upper() or None,
        show_default=shown,
        rich_help_panel=title or None,
    )


def _declared(name: str, *, is_switch: bool) -> tuple[str]:
    """The option of a field. Left to itself, typer 0.27 takes the metavar for the name where they differ in case."""
    plain = name.replace("_", "-")
    return (f"--{plain}/--no-{plain}" if is_switch else f"--{plain}",)


def _option_name(group: type[Settings], name: str) -> str:
    """How the command line writes a field; other words stay as they are."""
    if name not in settings_of(group):
        return f"`{name}`"
    declared = settings_of(group)[name].option or (f"--{name.replace('_', '-')}",)
    return max(declared, key=len).partition("/")[0]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(group: type, name: str) -> Any:
    return next(field.default for field in fields(group) if field.name == name)


def _plain(group: type[Settings], name: str, values: Mapping[str, Any]) -> Any:
    """A field's value as the group takes it, from the values of all options."""
    hidden = values.get(f"{name}{_HIDDEN}")
    value = values[name] if hidden is None else hidden
    known, default = settings_of(group)[name], _default(group, name)
    if value is None:
        return default
    if known.parse:
        return known.parse(name, value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        return tuple(value)
    if known.zero_is_default and value == 0 and not isinstance(value, bool):
        return None
    return value


def _named_values(settings: list[str]) -> dict[str, Any]:
    """What several ``--set NAME=VALUE`` say.

    Raises:
        SettingError: one of them has no value.
    """
    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not equals:
            raise SettingError(f"--set {name}: give NAME=VALUE, such as --set samples=32")
    return {name: value for name, _, value in pairs}


def _remember(context: typer.Context, parts: list[_Part]) -> None:
    """Note how the command at hand writes its fields, and which of them were given."""
    _names.clear()
    _given.clear()
    _commands.update(getattr(context.find_root().command, "commands", {}))
    for part in parts:
        if isinstance(part.fields, Changes):
            _names.update({name: f"--set {name}" for name in settings_of(part.fields.group)})
    for parameter in context.command.params:
        name = parameter.name
        if name is None:
            continue
        is_option = parameter.opts[0].startswith("-")
        _names[name] = max(parameter.opts, key=len) if is_option else _argument_name(parameter)
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            _given[name.removesuffix(_HIDDEN)] = _names[name]


def _argument_name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper()).strip("[]")


def _stdout_is_read() -> bool:
    """Whether stdout is no pipe whose reader is gone."""
    if sys.__stdout__ is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), select.POLLOUT)
    return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
