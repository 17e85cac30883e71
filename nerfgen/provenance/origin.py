"""A command as a value, and what those of all kinds of files need: where inputs are, the class, the output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nerfgen.errors import InputError
from nerfgen.objectclass import CLASS_NAMES, ObjectClass, class_from_text, object_class
from nerfgen.provenance.recorded_inputs import CHANGED, FOLDER, find_input, images_folder
from nerfgen.provenance.written import Written
from nerfgen.storage import InputRecord, Record, Shard, file_digest
from nerfgen.untrusted import printable

_CLASS_SUFFIXES = (".toml", ".json")
_MOST_FOLDERS = 100


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


@dataclass
class Origin:
    """A file whose command is reconstructed.

    Attributes:
        notes: what the file does not tell, so far.
    """

    written: Written
    notes: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The file."""
        return self.written.path

    @property
    def folder(self) -> Path:
        """The file's own folder, relative to how the file was given."""
        return self.path.parent

    @property
    def places(self) -> list[Path]:
        """Folders where inputs may be: outputs are often one or two folders below."""
        return list(dict.fromkeys([self.folder, self.folder.parent, self.folder.parent.parent]))

    @property
    def wider_places(self) -> list[Path]:
        """The same, and folders beside that of the file, as for a model that is continued."""
        beside: list[Path] = []
        with contextlib.suppress(OSError):  # a folder that may be entered, but not listed
            found = self.folder.parent.iterdir()
            beside = sorted(path for path in found if path.is_dir() and not path.name.startswith("."))
        return list(dict.fromkeys([*self.places, *beside[:_MOST_FOLDERS]]))

    @property
    def parameters(self) -> Record:
        """The recorded parameters."""
        return self.written.parameters

    @property
    def described(self) -> ObjectClass:
        """The class."""
        text = self.written.description
        return (
            class_from_text(text, f"{self.path}: class") if text else object_class(self.written.object_class)
        )

    @property
    def files(self) -> list[InputRecord]:
        """The recorded inputs without folders."""
        return [record for record in self.written.inputs if record["file"] != FOLDER]

    @property
    def shard(self) -> str | None:
        """The option of the shard; None for a whole run."""
        part = self.parameters.get("shard")
        return f"{part['number']}/{part['of']}" if part else None

    def per_image(self, name: str) -> str:
        """The name of a per-image command's output by default, of its shard if it has one."""
        part = self.parameters.get("shard")
        return Shard(part["number"], part["of"]).path(Path(name)).name if part else name

    def call(self, command: str, arguments: Sequence[str | Path], **options: Any) -> Call:
        """The call, with the notes so far."""
        return Call(command, [str(each) for each in arguments], options, notes=self.notes)

    def own(self, *names: str, **renamed: str) -> Record:
        """Parameters that are options of these names; ``renamed`` gives the parameter of an option."""
        return {name: self.parameters.get(name) for name in names} | {
            option: self.parameters.get(name) for option, name in renamed.items()
        }

    def output(self, default: Path) -> Path | None:
        """The option of the output; None where it is the default."""
        return None if self.path == default else self.path

    def input(self, record: InputRecord, placeholder: str) -> Path:
        """Where a recorded file is; a placeholder with a note where it is not."""
        found, state = find_input(self.written, record, self.wider_places)
        if found is None or (state == CHANGED and found.parent != self.folder):
            self.notes.append(f"{placeholder} stands for the file {printable(record['file'])}")
            return Path(placeholder)
        if state == CHANGED:
            self.notes.append(f"{printable(str(found))} has changed since, or is another file")
        return found

    def input_unless(self, record: InputRecord, default: Path, placeholder: str) -> Path | None:
        """As :meth:`input`; None where it is the default, which a command finds itself."""
        found = self.input(record, placeholder)
        return None if found == default else found

    def images(self, names: Sequence[str], placeholder: str = "DATA") -> Path:
        """The folder of the images; a placeholder with a note where they are not beside the file."""
        found = images_folder(self.written, names, self.places)
        if found is None:
            self.notes.append(f"{placeholder} stands for the folder of the images")
        return found or Path(placeholder)

    def class_option(self, default: str = "") -> str | Path | None:
        """The option of the class; None where it is the default."""
        name, text = self.written.object_class, self.written.description
        if not text:
            return None if name == default else name
        for folder in dict.fromkeys([*self.places, Path()]):
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in _CLASS_SUFFIXES and _describes(path, text):
                    return Path(f"./{path}") if str(path) in CLASS_NAMES else path
        self.notes.append(
            "CLASS.toml stands for the file that describes the class; the attribute class_description holds its text"
        )
        return Path("CLASS.toml")

    def by_digest(self, digest: str, suffixes: Iterable[str], placeholder: str) -> Path:
        """The file with a digest, among those of some suffixes; a placeholder with a note where there is none."""
        return self.search(
            lambda path: (
                path.suffix.lower() in suffixes
                and path.is_file()
                and path != self.path
                and file_digest(path)[1] == digest
            ),
            placeholder,
            f"the file with the SHA-256 {digest}",
        )

    def search(self, fits: Callable[[Path], bool], placeholder: str, what: str) -> Path:
        """The first file or folder near the file that fits; a placeholder with a note where none does."""
        for folder in self.wider_places:
            found = next((path for path in sorted(folder.iterdir()) if fits(path)), None)
            if found:
                return found
        self.notes.append(f"{placeholder} stands for {what}")
        return Path(placeholder)


def _describes(path: Path, text: str) -> bool:
    try:
        return path.is_file() and object_class(path).text == text
    except (InputError, OSError):
        return False
