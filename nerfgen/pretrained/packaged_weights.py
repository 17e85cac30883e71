"""Weights that an installed package carries, or a folder that the user names; verified before every use."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from nerfgen.errors import MissingDependencyError


@dataclass(frozen=True)
class PackagedWeights:
    """A published file of weights.

    Attributes:
        name: file name in every folder.
        sha256: SHA-256 of its content, hexadecimal.
        purpose: what the network computes; messages begin with it.
        package: name of the distribution that carries the file.
        folder: its folder within the package's modules: a module, and folders below it.
        install: the command that installs the package.
    """

    name: str
    sha256: str
    purpose: str
    package: str
    folder: str
    install: str

    def find(self, folder: Path | None = None) -> Path:
        """The verified file in ``folder``, else that of the installed package.

        Raises:
            MissingDependencyError: neither exists, or the file is not readable or not the published one.
        """
        path = folder / self.name if folder else None
        if path is None or not path.is_file():
            path = self._installed()
            if path is None:
                raise MissingDependencyError(
                    f"{self.purpose}: the package {self.package} is not installed; {self.install}"
                )
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MissingDependencyError(
                f"{self.purpose}: {path}: not readable ({error.strerror})"
            ) from error
        if digest != self.sha256:
            raise MissingDependencyError(
                f"{self.purpose}: {path}: damaged or another file: its SHA-256 begins with {digest[:8]}, not "
                f"{self.sha256[:8]}; delete it and install the package {self.package} again"
            )
        return path

    def _installed(self) -> Path | None:
        """Where the package has the file; found without importing the package, whose code is not needed."""
        module, *below = self.folder.split("/")
        spec = importlib.util.find_spec(module)
        places = (spec.submodule_search_locations if spec else None) or []
        return next((Path(place).joinpath(*below, self.name) for place in places), None)
