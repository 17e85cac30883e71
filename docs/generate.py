"""Generates parts of the documentation: the commands, the file formats and the drawing of the rooms.

    python docs/generate.py            rewrite docs/commands.md, docs/files.md and docs/architecture.svg
    python docs/generate.py --check    report stale files without writing (exit code 1 if there are any)

The text above the marker line of a page is written by hand and is kept. Commands are read from the signatures of the
command line, files from ``nerfgen.storage.SCHEMAS``, rooms from the imports in the sources.
"""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

import typer

sys.path.append(str(Path(__file__).parent))  # where another program loads this file
sys.path.append(str(Path(__file__).parents[1]))  # for a working tree that is not installed

import architecture

from nerfgen.cli.main import app
from nerfgen.model import PRESETS, Recipe
from nerfgen.settings import settings_of
from nerfgen.storage import ROOT_ATTRIBUTES, SCHEMAS, STATUSES, USABLE, Dataset, Schema

DOCS = Path(__file__).parent
MARKER = "<!-- Generated below this line by docs/generate.py; edit the sources instead. -->"

_TYPE_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
_DEFAULT_PANELS = ("Arguments", "Options")


def commands() -> str:
    """Every command, in the order of the program's help."""
    panels: dict[str, list[tuple[str, Any]]] = {}
    for command in app.registered_commands:
        panel = _text(command.rich_help_panel) or "Commands"
        panels.setdefault(panel, []).append((_command_name(command), command))
    for group in app.registered_groups:
        members = [(f"{group.name} {_command_name(c)}", c) for c in group.typer_instance.registered_commands]
        panels.setdefault(_text(group.rich_help_panel) or "Commands", []).extend(members)
    lines = []
    for panel, members in panels.items():
        lines += [f"{panel}:", ""]
        for name, command in members:
            anchor = f"nerfgen-{name.replace(' ', '-')}"
            lines.append(f"- [`nerfgen {name}`](#{anchor}): {_first_line(command.callback)}")
        lines.append("")
    for members in panels.values():
        for name, command in members:
            lines += _command(name, command)
    lines += _presets()
    return "\n".join(lines).rstrip() + "\n"


def file_formats() -> str:
    """The root attributes and statuses of all files, then every schema."""
    lines = ["## Root attributes of every file", "", "| attribute | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in _meanings(ROOT_ATTRIBUTES)]
    lines += ["", "## Statuses", "", "| status | meaning | used by later commands |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | {_cell(meaning)} | {'yes' if name in USABLE else 'no'} |"
        for name, meaning in STATUSES.items()
    ]
    lines.append("")
    for schema in SCHEMAS.values():
        lines += _schema(schema)
    return "\n".join(lines).rstrip() + "\n"


GENERATED = {"commands.md": commands, "files.md": file_formats, "architecture.svg": architecture.drawing}


def rendered(name: str) -> str:
    """A whole document: a page is its hand-written part, the marker and the generated part."""
    if not name.endswith(".md"):
        return GENERATED[name]()
    written = (DOCS / name).read_text(encoding="utf-8").split(MARKER)[0].rstrip()
    return f"{written}\n\n{MARKER}\n\n{GENERATED[name]()}"


def _current(name: str) -> str:
    """What a document holds; nothing before it is first generated."""
    return (DOCS / name).read_text(encoding="utf-8") if (DOCS / name).exists() else ""


def _command(name: str, command: Any) -> list[str]:
    parameters = _parameters(command.callback)
    arguments = [p for p in parameters if isinstance(p.info, typer.models.ArgumentInfo)]
    words = [f"[{p.placeholder}]..." if p.repeated else p.placeholder for p in arguments]
    usage = " ".join(["nerfgen", name, "[OPTIONS]", *words])
    lines = [f"## nerfgen {name}", "", f"Usage: `{usage}`", "", _help(command.callback), ""]
    panels: dict[str, list[_Parameter]] = {}
    for parameter in parameters:
        panels.setdefault(parameter.panel, []).append(parameter)
    for panel in [
        *(p for p in _DEFAULT_PANELS if p in panels),
        *(p for p in panels if p not in _DEFAULT_PANELS),
    ]:
        lines += [f"**{panel}**", "", "| name | value | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [parameter.row() for parameter in panels[panel]]
        lines.append("")
    title, examples = _examples(_text(command.epilog))
    if examples:
        lines += [f"**{title}**", "", "```sh", *examples, "```", ""]
    return lines


def _presets() -> list[str]:
    """Every field of the training recipes."""
    lines = [
        "## Presets",
        "",
        "The fields of a preset of `nerfgen train --preset`. `--set NAME=VALUE` changes any of them.",
        "",
    ]
    lines += [f"| name | {' | '.join(PRESETS)} | meaning |", f"| --- |{' --- |' * len(PRESETS)} --- |"]
    for name, known in settings_of(Recipe).items():
        values = " | ".join(str(getattr(preset, name)) for preset in PRESETS.values())
        lines.append(f"| `{name}` | {values} | {_cell(known.help)} |")
    return [*lines, ""]


class _Parameter:
    """One argument or option, as its signature declares it."""

    def __init__(self, name: str, annotation: Any, default: Any) -> None:
        kind, self.info = typing.get_args(annotation)[:2]
        self.name, self.default = name, default
        self.required = default is inspect.Parameter.empty
        self.repeated, self.kind = _plain_type(kind)
        self.is_argument = isinstance(self.info, typer.models.ArgumentInfo)
        self.names = self._names()

    @property
    def panel(self) -> str:
        return _text(self.info.rich_help_panel) or _DEFAULT_PANELS[not self.is_argument]

    @property
    def placeholder(self) -> str:
        """The name of an argument in a usage line."""
        return _text(self.info.metavar) or self.name.upper()

    def row(self) -> str:
        cells = (self.names, self._value(), self._default(), self._meaning())
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"

    def _names(self) -> str:
        if self.is_argument:
            return f"`{self.placeholder}`"
        # In an annotation, typer stores the first name as the default.
        candidates = (self.info.default, *(self.info.param_decls or ()))
        declared = [part for part in candidates if isinstance(part, str) and part.startswith("-")]
        dashed = f"--{self.name.replace('_', '-')}"
        if not declared:
            declared = [dashed, f"--no-{dashed[2:]}"] if self.kind is bool else [dashed]
        return ", ".join(f"`{part}`" for text in declared for part in text.split("/"))

    def _value(self) -> str:
        if self.kind is bool:
            return ""
        if isinstance(self.kind, enum.EnumMeta):
            return ", ".join(f"`{member.value}`" for member in self.kind)
        if self.is_argument:
            return _TYPE_NAMES[self.kind] + (", repeatable" if self.repeated else "")
        metavar = f"`{_text(self.info.metavar)}`" if self.info.metavar else _TYPE_NAMES[self.kind]
        least, most = self.info.min, self.info.max
        bounds = f", {least:g} or more" if least is not None and most is None else ""
        if least is not None and most is not None:
            bounds = f", {least:g} to {most:g}"
        return metavar + bounds + (", repeatable" if self.repeated else "")

    def _default(self) -> str:
        if self.required:
            return "required"
        if isinstance(self.info.show_default, str):
            return f"`{self.info.show_default}`"
        if self.default is None or not self.info.show_default or self.default == "":
            return ""
        if self.kind is bool:
            on, paired, off = self.names.partition(", `--no-")
            return (on if self.default else f"`--no-{off}") if paired else ""
        value = self.default.value if isinstance(self.default, enum.Enum) else self.default
        return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"

    def _meaning(self) -> str:
        return _markdown(self.info.help or "")


def _parameters(function: Any) -> list[_Parameter]:
    signature = inspect.signature(function, eval_str=True)
    shown = [
        _Parameter(p.name, p.annotation, p.default)
        for p in signature.parameters.values()
        if p.annotation is not typer.Context
    ]
    return [parameter for parameter in shown if not getattr(parameter.info, "hidden", False)]


def _plain_type(kind: Any) -> tuple[bool, Any]:
    """Whether an option may be repeated, and the type of one value of it."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is list:
        return True, typing.get_args(kind)[0]
    return False, kind


def _command_name(command: Any) -> str:
    return command.name or command.callback.__name__.replace("_", "-")


def _help(function: Any) -> str:
    return _markdown(inspect.cleandoc(function.__doc__ or ""))


def _first_line(function: Any) -> str:
    return _help(function).split("\n\n")[0].replace("\n", " ")


def _examples(epilog: str) -> tuple[str, list[str]]:
    """Title and lines of :func:`nerfgen.cli.runtime.examples`; text after several blanks becomes a comment."""
    title, *lines = [re.sub(r"\[/?\w+\]", "", part).strip() for part in epilog.split("\n\n")] or [""]
    return title, [re.sub(r"\s{3,}", "  # ", line) for line in lines]


def _schema(schema: Schema) -> list[str]:
    lines = [f"## {schema.name}", "", f"{schema.title[0].upper()}{schema.title[1:]}.", ""]
    if schema.attributes:
        lines += ["| additional root attribute | meaning |", "| --- | --- |"]
        lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in _meanings(schema.attributes)]
        lines.append("")
    lines += ["| dataset | axes | type | unit | frame | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [_dataset(dataset) for dataset in schema.datasets]
    lines.append("")
    if schema.groups or schema.optional_groups:
        lines += ["| group | holds |", "| --- | --- |"]
        lines += [f"| `{name}` | {_cell(meaning)} |" for name, meaning in schema.groups.items()]
        lines += [
            f"| `{name}` (optional) | {_cell(meaning)} |" for name, meaning in schema.optional_groups.items()
        ]
        lines.append("")
    return lines


def _meanings(attributes: Mapping[str, Attribute]) -> Iterator[tuple[str, str]]:
    for name, attribute in attributes.items():
        yield name, attribute.description


def _dataset(dataset: Dataset) -> str:
    axes = ", ".join(str(axis) for axis in dataset.shape) or "scalar"
    optional = " (optional)" if dataset.optional else ""
    cells = (
        f"`{dataset.name}`{optional}",
        axes,
        dataset.kind,
        dataset.unit,
        dataset.frame,
        dataset.description,
    )
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _markdown(text: str) -> str:
    """Rich's markup as Markdown's."""
    return re.sub(r"\[/?bold\]", "**", text)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _text(value: Any) -> str:
    """A setting of typer: a string, None or typer's placeholder for a default."""
    return value if isinstance(value, str) else str(getattr(value, "value", None) or "")


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate parts of the documentation.")
    parser.add_argument(
        "--check",
        action="store_true",
        help="report stale files without writing; exit code 1 if there are any",
    )
    check = parser.parse_args().check
    stale = [name for name in GENERATED if _current(name) != rendered(name)]
    for name in stale:
        print(f"docs/{name} is stale" if check else f"wrote docs/{name}")
        if not check:
            (DOCS / name).write_text(rendered(name), encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
