"""Where ``render`` finds its model: in a file, or on a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nerfgen.live import TOKEN_VARIABLE
from nerfgen.settings import Settings, setting

if TYPE_CHECKING:
    from nerfgen import storage
    from nerfgen.cli.objects import Selection
    from nerfgen.cli.progress import Reporter
    from nerfgen.cli.runtime import Cluster
    from nerfgen.geometry import Cameras
    from nerfgen.inversion import FitSettings
    from nerfgen.model import Model, Objects
    from nerfgen.objectclass import ObjectClass
    from nerfgen.parallel import Progress
    from nerfgen.render import RenderSettings


@dataclass(frozen=True)
class ServerChoice(Settings, title="Server"):
    """The server that renders."""

    server: str | None = setting(
        None,
        metavar="URL",
        help="Render on a server of `nerfgen serve`; MODEL is then the name of a model there, and images are sent to "
        "it.",
    )
    token: str | None = setting(
        None, metavar="TOKEN", help=f"Token of `server`; by default that of {TOKEN_VARIABLE}."
    )

    def source(self, model: Path) -> ModelSource:
        """Where the model is."""
        if self.server is None:
            return FileSource(model)
        return ServerSource(self.server, self.token or os.environ.get(TOKEN_VARIABLE, ""), str(model))


class ModelSource(Protocol):
    """A model and what renders it.

    Attributes:
        folder: where outputs go by default, and where the images of the model's rows are.
        object_class, distance, size: of the model.
        rows: of its table.
        record: provenance of its file.
        model: the model; None where it is elsewhere.
    """

    folder: Path

    @property
    def object_class(self) -> ObjectClass: ...
    @property
    def distance(self) -> float: ...
    @property
    def size(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def record(self) -> storage.InputRecord: ...
    @property
    def model(self) -> Model | None: ...

    def load(
        self,
        selection: Selection,
        rows: list[int],
        fitting: FitSettings,
        reporter: Reporter,
        cluster: Cluster,
    ) -> Objects:
        """The selected objects; new images are fitted first."""

    def render(
        self,
        objects: Objects,
        stage: storage.Stage,
        cameras: Cameras,
        rendering: RenderSettings,
        progress: Progress,
        cluster: Cluster,
        workers: int | None,
    ) -> None:
        """Render objects into a views file."""

    def close(self) -> None:
        """Release what it holds."""


class FileSource:
    """A model file of this machine; see :class:`ModelSource`."""

    def __init__(self, path: Path) -> None:
        from nerfgen import storage
        from nerfgen.model import load_model, model_file

        self._path = path = model_file(path)
        self.folder = path.parent
        self.model: Model = load_model(path)
        self.record = storage.file_record(path)
        self.object_class, self.distance = self.model.object_class, self.model.distance
        self.size, self.rows = self.model.size, len(self.model.images)

    def load(
        self,
        selection: Selection,
        rows: list[int],
        fitting: FitSettings,
        reporter: Reporter,
        cluster: Cluster,
    ) -> Objects:
        """The selected objects; new images are fitted first."""
        return selection.load(
            self.model,
            self.record,
            rows,
            fitting,
            reporter,
            file=self._path,
            shard=cluster.shard,
            scheduler=cluster.scheduler,
        )

    def render(
        self,
        objects: Objects,
        stage: storage.Stage,
        cameras: Cameras,
        rendering: RenderSettings,
        progress: Progress,
        cluster: Cluster,
        workers: int | None,
    ) -> None:
        """Render objects into a views file."""
        from nerfgen.render import render_to_file

        render_to_file(
            self.model,
            objects,
            stage,
            cameras=cameras,
            rendering=rendering,
            file=self._path,
            workers=workers,
            scheduler=cluster.scheduler,
            progress=progress,
        )

    def close(self) -> None:
        """Nothing is held."""


class ServerSource:
    """A model of a server; see :class:`ModelSource`."""

    model = None
    folder = Path()

    def __init__(self, url: str, token: str, name: str) -> None:
        from nerfgen.client import Client

        self._client = Client(url, token, name)
        self.record = self._client.file
        self.object_class, self.distance = self._client.object_class, self._client.distance
        self.size, self.rows = self._client.size, self._client.rows

    def load(
        self,
        selection: Selection,
        rows: list[int],
        fitting: FitSettings,
        reporter: Reporter,
        cluster: Cluster,
    ) -> Objects:
        """The selected objects; new images are fitted first."""
        from nerfgen import model as models

        client = self._client
        if selection.image:
            with reporter.progress("fitting", "images") as progress:
                found = client.fit(selection.image, fitting, progress=progress)
        elif selection.codes:
            found = client.objects(*selection.codes)
        elif selection.new is not None:
            sampling = models.SampleSettings(1, selection.parameters["truncation"], seed=selection.new)
            if client.draws_gaussian(sampling):
                found = models.drawn_objects(client.principal, 1, sampling.truncation, selection.new)
            else:
                found = models.named_samples(client.sample(sampling))
        elif rows:
            found = client.objects(",".join(map(str, rows)))
        else:
            found = models.mean_object(client.principal)
        return models.move_to(found, client.principal, selection.axes) if selection.axes else found

    def render(
        self,
        objects: Objects,
        stage: storage.Stage,
        cameras: Cameras,
        rendering: RenderSettings,
        progress: Progress,
        cluster: Cluster,
        workers: int | None,
    ) -> None:
        """Render objects into a views file."""
        import numpy as np

        from nerfgen.model import Objects
        from nerfgen.render import Seen, Views, write_views

        def ask(seen: Sequence[Seen]) -> Iterator[Views]:
            for number, own in seen:
                tuned = {0: objects.tuned[number]} if number in objects.tuned else {}
                one = Objects(["one"], ["ok"], np.full(1, -1), objects.latents[[number]], tuned=tuned)
                found = self._client.render(one, own, rendering, with_normals=True)
                yield Views(**{name: values[0] for name, values in vars(found).items()})

        write_views(ask, objects, stage, cameras=cameras, size=rendering.size_of(self), progress=progress)

    def close(self) -> None:
        """End the connections."""
        self._client.close()
