"""A call of the program as a value: what the command line writes in words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nerfgen.storage import Record


@dataclass(frozen=True)
class Call:
    """A command with its arguments and options.

    Attributes:
        command: its name.
        arguments: positional ones, in order.
        options: values by the name of the field or parameter. None, and values that are the default, are left out.
        changes: of the fields of a recipe.
        notes: what the file does not tell, a line each; arguments have words in capitals there.
    """

    command: str
    arguments: list[str] = field(default_factory=list)
    options: Record = field(default_factory=dict)
    changes: Record = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def with_changes(self, changes: Record) -> Call:
        """The same with changes of a recipe."""
        return replace(self, changes=changes)
