"""What the service does, without HTTP: models, renderings, fits, meshes and personalisations, within the limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError, MissingDependencyError, NerfgenError
from nerfgen.image import UnreadableImageError
from nerfgen.inversion import (
    FitSettings,
    find_networks,
    fit_prepared,
    personalise_prepared,
    prepare_images,
    tune_prepared,
)
from nerfgen.live import (
    BusyError,
    ExpiredError,
    Job,
    Jobs,
    LiveModel,
    ModelHost,
    RenderQueue,
    TunedModel,
    Uploads,
)
from nerfgen.mesh import MESH_SCHEMA, MeshSettings, object_surface, surface_bytes
from nerfgen.model import Objects, table_objects
from nerfgen.parallel import Progress, silent
from nerfgen.render import ObjectRenderer, Views, samples_of
from nerfgen.serve.bodies import MeshBody, RenderBody, SampleBody
from nerfgen.serve.owners import Owners, Personal, UnknownOwnerError, key_of
from nerfgen.serve.selection import (
    Plan,
    draw_objects,
    numbers,
    plan_views,
    require_at_most,
    select_objects,
    source_of,
)
from nerfgen.serve.settings import Capacity, Limits
from nerfgen.serve.wire import Arrays, bytes_of, check_delta, pack, pack_delta, unpack, unpack_delta
from nerfgen.untrusted import excerpt

# The most rays that one call renders: requests of all sizes find their program compiled.
_COMPILED_RAYS = 1 << 15


class UnknownModelError(NerfgenError):
    """No model of a name is served."""


class Fit(NamedTuple):
    """Fitted images.

    Attributes:
        objects: one for each image.
        owner: token under which the change of the networks is kept; empty if nothing is.
    """

    objects: Objects
    owner: str


class Service:
    """Models in memory, and all that works for them; a context manager that ends it.

    Args:
        paths: of model files, or of folders that hold ``model.h5``.
        fitting: where landmark estimators and MediaPipe's files are; its other fields are up to each request.
        max_bytes: of one image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        capacity: Capacity = Capacity(),
        limits: Limits = Limits(),
        *,
        fitting: FitSettings = FitSettings(),
        max_bytes: int = 32 << 20,
    ) -> None:
        self.capacity, self.limits = capacity, limits
        self.host = ModelHost(paths, limit=capacity.max_models)
        self.owners = Owners(capacity.personal, int(capacity.personal_mib * 2**20))
        self.queue = RenderQueue(
            limit=capacity.queue,
            max_batch=capacity.max_batch,
            batch_seconds=capacity.batch_wait_ms / 1000,
            cache_bytes=int(capacity.cache_mib * 2**20),
        )
        self.jobs = Jobs(self.queue, limit=capacity.fit_queue)
        self.is_ready = False
        self._uploads = Uploads(max_bytes=max_bytes)
        self._fitting = fitting
        self._records: dict[str, dict[str, Any]] = {}
        # Why images can't be fitted, by the name of the model.
        self._lacking: dict[str, str] = {}

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.is_ready = False
        self.jobs.close()
        self.queue.close()
        self._uploads.__exit__()

    def warm_up(
        self,
        is_over: Callable[[], bool] = lambda: False,
        progress: Progress = silent,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Compile rendering with the default samples, and find what fits need. Requests are served afterwards.

        Args:
            is_over: whether to end before the next model.
            warn: called with what the user should know, such as a download.
        """
        for done, name in enumerate(self.host.names):
            if is_over():
                return
            live = self.host.get(name)
            self._records[name] = _record(live)
            try:
                given = self._fitting
                find_networks(live.model, landmarker=given.landmarker, models=given.models, warn=warn)
            except NerfgenError as error:
                self._lacking[name] = str(error)
            renderer = ObjectRenderer(live.model, live.model.latents[0])
            renderer.compile(_COMPILED_RAYS, samples=samples_of(live.model), with_normals=True)
            progress(done + 1, len(self.host.names), name)
        self.is_ready = True

    def models(self) -> list[dict[str, Any]]:
        """What is known of each model, as JSON."""
        return [
            {**record, "loaded": self.host.is_loaded(name), "fits": name not in self._lacking}
            for name, record in list(self._records.items())
        ]

    def details(self, name: str) -> dict[str, Any]:
        """What a client needs to know of a model, as JSON: its class, its file, and the shapes of its networks."""
        live = self._live(name)
        shapes = {path: array.shape for path, array in pack_delta(live.model.parameters, "").items()}
        return {
            **self._records[live.name],
            "class_description": live.model.object_class.text,
            "file": live.record,
            "parameters": shapes,
            "latent": live.model.recipe.latent,
        }

    def principal(self, name: str) -> Arrays:
        """The Gaussian of a model's table."""
        return vars(self._live(name).model.principal)

    def rows(self, name: str, rows: str) -> Objects:
        """Training objects by row, such as ``0,5-9``."""
        model = self._live(name).model
        return table_objects(model, numbers("rows", rows, len(model.images), self.limits))

    def sample(self, body: SampleBody) -> Objects:
        """New objects."""
        return draw_objects(body, self._live(body.model), self.limits)

    def require_room(self) -> None:
        """Raise :class:`BusyError` where the queue is full, before anything is computed for a request."""
        waiting, done = len(self.queue), self.queue.statistics
        if waiting >= self.capacity.queue:
            done.refused += 1
            seconds = waiting * done.busy_seconds / max(done.views, 1)
            raise BusyError(f"{waiting} requests are waiting; try again later", seconds)

    def plan(self, body: RenderBody, owner: str) -> Plan:
        """What a rendering request asks for.

        Args:
            owner: token of a personalisation; empty for none.

        Raises:
            InputError: a value is wrong or beyond the limits; names the field in backticks.
            UnknownOwnerError: nothing is kept for the owner.
        """
        live = self._live(body.model)
        personal = self._personal(live, owner)
        fitted = personal.objects if personal else None
        return plan_views(body, live, _tuned(live, personal, owner), fitted, self.limits)

    def render(self, plan: Plan) -> Future[list[Views]]:
        """Ask for the views of a plan.

        Raises:
            BusyError: the queue is full, or would not answer in time.
            ExpiredError: rendering alone would take too long.
        """
        done, seconds = self.queue.statistics, self.capacity.deadline
        rays = sum(view.shape.rays for view in plan.views)
        if rays * done.busy_seconds > seconds * max(done.rays, 1):
            raise ExpiredError(
                f"{rays:,} rays take longer than {seconds:g} seconds here; ask for less at a time"
            )
        return self.queue.submit(plan.views, seconds=seconds)

    def mesh(self, body: MeshBody, owner: str, suffix: str) -> Job[bytes]:
        """Ask for the mesh of an object.

        Args:
            suffix: of a file of its format; empty for npz.

        Raises:
            InputError: a value is wrong or beyond the limits; names the field in backticks.
            UnknownOwnerError: nothing is kept for the owner.
            BusyError: too many tasks wait.
        """
        live = self._live(body.model)
        personal = self._personal(live, owner)
        objects = select_objects(body, live, personal.objects if personal else None, self.limits)
        require_at_most(source_of(body), len(objects), 1, "objects in a mesh")
        require_at_most("resolution", body.resolution, self.limits.max_resolution)
        meshing = MeshSettings(
            **{each.name: getattr(body, each.name) for each in dataclasses.fields(MeshSettings)}
        )
        tuned = _tuned(live, personal, owner)
        model = tuned.model if tuned else live.model

        def make(progress: Progress) -> bytes:
            progress(0, 1)
            surface = object_surface(model, objects.latents[0], meshing)
            progress(1, 1)
            if not suffix:
                return pack(
                    {**vars(surface.mesh), "level": np.array(surface.level), "parts": np.array(surface.parts)}
                )
            parameters = dataclasses.asdict(meshing)
            stage = storage.Stage(
                Path(f"mesh{suffix}"),
                MESH_SCHEMA,
                model.object_class,
                parameters=parameters,
                inputs=[live.record],
            )
            return surface_bytes(stage, surface)

        return self.jobs.submit(make, seconds=self.capacity.fit_deadline)

    def fitting(self, *, steps: int | None, tune_steps: int | None, **given: Any) -> FitSettings:
        """Settings of a fit; steps that are not given are the usual ones, within the limits.

        Raises:
            InputError: a value is wrong or beyond the limits; names the field in backticks.
        """
        for name, value in (("steps", steps), ("tune_steps", tune_steps)):
            require_at_most(name, value or 0, self.limits.max_steps)
            given[name] = min(getattr(FitSettings, name), self.limits.max_steps) if value is None else value
        return FitSettings(**given)

    def fit(
        self, name: str, contents: Sequence[bytes], fitting: FitSettings, *, shared: bool = False
    ) -> Job[Fit]:
        """Ask for the latent codes of images.

        Args:
            contents: the image files.
            fitting: with ``tune``, the change of the networks is kept.
            shared: the images are of one object: keep all, with one change for all; the object itself comes last.

        Raises:
            InputError: a value is beyond the limits; names the field in backticks.
            MissingDependencyError: images can't be fitted to this model here.
            BusyError: too many tasks wait.
        """
        live = self._live(name)
        if live.name in self._lacking:
            raise MissingDependencyError(f"images can't be fitted to {live.name}: {self._lacking[live.name]}")
        require_at_most("images", len(contents), self.limits.max_images, "images")

        def work(progress: Progress) -> Fit:
            images = [self._decoded(number, content, progress) for number, content in enumerate(contents)]
            prepared = prepare_images(
                live.model,
                images,
                landmarker=self._fitting.landmarker,
                models=self._fitting.models,
                workers=1,
            )
            if shared:
                objects = personalise_prepared(
                    live.model, prepared, "object", fitting=fitting, progress=progress
                )
                # The images keep the numbers in which they came.
                objects = objects.some([*range(1, len(objects)), 0])
            else:
                found = fit_prepared(live.model, prepared, fitting, progress)
                if not fitting.tune:
                    return Fit(found.objects, "")
                objects = tune_prepared(live.model, prepared, found, fitting, progress)
            delta: dict[str, Any] = next(iter(objects.tuned.values()), {})
            codes = dataclasses.replace(objects, images={}, tuned={})
            personal = Personal(live.name, live.record["sha256"], delta, codes)
            return Fit(objects, self.owners.keep(personal))

        return self.jobs.submit(work, seconds=self.capacity.fit_deadline)

    def _decoded(self, number: int, content: bytes, progress: Progress) -> np.ndarray:
        progress(0, 1)
        try:
            return self._uploads.decode(content)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"image {number}: {error.reason}", error.status) from error

    def restore(self, name: str, content: bytes) -> str:
        """Keep a change of the networks that a client holds; its owner's token.

        Args:
            content: npz, as answers to fits have it.

        Raises:
            InputError: it is no change of this model.
        """
        live = self._live(name)
        delta = unpack_delta(unpack(content, bytes_of(live.model.parameters)))
        if not delta:
            raise InputError(
                "the content has no arrays tuned/...; send those of an answer to a fit that tunes"
            )
        check_delta(delta, live.model.parameters)
        return self.owners.keep(Personal(live.name, live.record["sha256"], delta))

    def _live(self, name: str) -> LiveModel:
        """A model; the first one without a name.

        Raises:
            UnknownModelError: there is none of that name.
        """
        if name and name not in self.host.names:
            raise UnknownModelError(
                f"there is no model {excerpt(name)}; there are {', '.join(self.host.names)}"
            )
        return self.host.get(name)

    def _personal(self, live: LiveModel, owner: str) -> Personal | None:
        """What is kept for an owner; None without one."""
        if not owner:
            return None
        found = self.owners.get(owner)
        if (found.model, found.digest) != (live.name, live.record["sha256"]):
            raise UnknownOwnerError(f"what is kept for this owner is of another `model`, {found.model}")
        return found


def _tuned(live: LiveModel, personal: Personal | None, owner: str) -> TunedModel | None:
    return live.tuned(personal.delta, key_of(owner)) if personal and personal.delta else None


def _record(live: LiveModel) -> dict[str, Any]:
    """A model as JSON."""
    model, principal = live.model, live.model.principal
    return {
        "name": live.name,
        "class": model.object_class.name,
        "rows": len(model.images),
        "size": model.size,
        "code_size": model.config.code_size,
        "latent_size": model.config.latent_size,
        "axes": principal.varying,
        "spectrum": [round(float(value), 6) for value in principal.spectrum],
        "distance": model.distance,
    }
