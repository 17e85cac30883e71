"""A call of the program as the words of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerfgen.provenance import Call


def command_line(call: Call, commands: Mapping[str, Any]) -> str:
    """The line that a user types, quoted for a shell; options that have their default are left out.

    Args:
        commands: of the program, by name.
    """
    # A file whose name looks like an option.
    arguments = [f"./{word}" if word.startswith("-") else word for word in call.arguments]
    words = ["nerfgen", call.command, *arguments]
    known = {parameter.name: parameter for parameter in commands[call.command].params}
    for name, value in call.options.items():
        words += _words(known[name], value)
    # A field of the recipe may have an option of its own.
    own = known.keys() - call.options.keys()
    named = {name: value for name, value in call.changes.items() if name in own and value is not None}
    for name, value in named.items():
        words += _words(known[name], value)
    for name, value in call.changes.items():
        if name not in named:
            words += ("--set", f"{name}={_text(value)}")
    return shlex.join(words)


def _words(parameter: Any, value: Any) -> Iterator[str]:
    """One option; none if its value is the default."""
    if value is None or value == parameter.default:
        return
    option = max(parameter.opts, key=len)
    if parameter.is_flag:
        if value:
            yield option
        elif parameter.secondary_opts:
            yield max(parameter.secondary_opts, key=len)
    elif parameter.multiple:
        for each in value:
            yield from (option, _text(each))
    elif parameter.nargs > 1:
        yield option
        yield from map(_text, value)
    else:
        yield from (option, _text(value))


def _text(value: Any) -> str:
    """A value as an option takes it; numbers exactly."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if isinstance(value, bool | None):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
