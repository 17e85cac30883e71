"""A network that others have published: the class that runs it with the installed MediaPipe, and its model file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfgen.pretrained.model_files import find_model


@dataclass(frozen=True)
class PublishedNetwork:
    """One implementation of a network: a value that is sent to worker processes.

    Attributes:
        module, name: of the class that runs it.
        identity: what its results depend on, for the provenance of files.
        model_file: name of the file that the class takes; empty where the package carries the model.
    """

    module: str
    name: str
    identity: str
    model_file: str = ""

    @property
    def modules(self) -> tuple[str, ...]:
        """What every worker imports beforehand."""
        return (self.module, f"nerfgen.pretrained.{'tasks' if self.model_file else 'graphs'}")

    def prepare(
        self, models: Path | None = None, notify: Callable[[str], None] = lambda line: None
    ) -> Path | None:
        """Check that the network can run here; returns its model file, None where it needs none.

        The parent of worker processes calls this once, so that an error is reported once and one process downloads.

        Args:
            models: the model file or a folder that holds it; searched for if None.
            notify: called with one line before a download starts.

        Raises:
            InputError: the file is missing from ``models`` or damaged.
            MissingDependencyError: MediaPipe or a system library is missing, or the file can't be downloaded.
        """
        for module in self.modules:
            importlib.import_module(module)
        if not self.model_file:
            return None
        from nerfgen.pretrained.tasks import check_library

        check_library()
        return find_model(self.model_file, models, notify=notify)

    def build(self, model: Path | None) -> Any:
        """The network, for one process.

        Args:
            model: what :meth:`prepare` returned.

        Raises:
            MissingDependencyError: MediaPipe or a system library is missing.
        """
        network = getattr(importlib.import_module(self.module), self.name)
        return network(model) if self.model_file else network()
