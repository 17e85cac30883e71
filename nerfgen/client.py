"""A generative model on a server of ``nerfgen serve``, with the methods of :class:`nerfgen.GenerativeModel`.

    from nerfgen.client import Client

    model = Client("http://localhost:8080")
    views = model.render(model.sample(), model.turned([-30, 0, 30]))

What follows from the model's class, cameras and Gaussian is computed here; the server is asked for the rest. Importing
this module imports nothing heavy. Needs the extra `client`: pip install 'nerfgen[client]'.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

from nerfgen import inversion, mesh, objectclass, render, serve, storage
from nerfgen import model as models
from nerfgen.errors import InputError, NerfgenError, extra_imports
from nerfgen.geometry import Cameras
from nerfgen.image import InputImage, UnreadableImageError
from nerfgen.interface import LatentModel, as_objects, cameras_of_each, one_object
from nerfgen.inversion import FitSettings
from nerfgen.mesh import MeshSettings
from nerfgen.model import SampleSettings
from nerfgen.parallel import Progress, silent
from nerfgen.render import RenderSettings
from nerfgen.untrusted import excerpt

if TYPE_CHECKING:
    import httpx

    from nerfgen.interface import Codes, Image
    from nerfgen.mesh import Surface
    from nerfgen.model import ModelShape, Objects, Principal
    from nerfgen.objectclass import ObjectClass
    from nerfgen.render import Views

# Requests at a time: the server renders one while others travel.
_REQUESTS = 4
# Times that a request is repeated where the server is busy, and the longest wait before each.
_REPETITIONS, _MAX_WAIT = 8, 60.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 1800.0
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_VIEW_ARRAYS = ("rgb", "foreground", "opacity", "depth", "normals")


class _ForgottenError(InputError):
    """The server no longer keeps a personalisation."""


class _Unusable(InputError):
    """An image is unusable.

    Attributes:
        status: why.
    """

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status


class _Task(NamedTuple):
    """Views of one object that are asked for together."""

    number: int
    cameras: Cameras


class Client(LatentModel):
    """A model on a server; a context manager that ends the connections.

    Attributes:
        url: address of the server.
        name: of the model.

    Args:
        token: of the server, where it needs one.
        model: name of the model; by default the first that the server has.

    Raises:
        InputError: there is no such model.
        NerfgenError: the server can't be reached.
    """

    def __init__(self, url: str, token: str = "", model: str = "") -> None:
        with extra_imports("the client", "client"):
            import httpx
        self.url = url.rstrip("/")
        self._errors = httpx.HTTPError
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise InputError(
                f"{excerpt(url)} is no address of a server ({error}); give http://HOST:PORT"
            ) from error
        # Tokens of changes that the server keeps for this client, by the digest of the change.
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()
        try:
            found = self._json("GET", "/v1/models")
            try:
                self._limits: dict[str, int] = found["limits"]
                self.name: str = model or found["models"][0]["name"]
            except (LookupError, TypeError):  # other programs have this path too
                raise self._not_nerfgen("/v1/models") from None
            self._details = self._json("GET", f"/v1/models/{quote(self.name, safe='')}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    @cached_property
    def object_class(self) -> ObjectClass:
        """The class of its objects."""
        text = self._details["class_description"]
        if text:
            return objectclass.class_from_text(text, f"{self.url}: class")
        return objectclass.shipped_class(self._details["class"])

    @property
    def distance(self) -> float:
        """Median distance of the training cameras from the world origin, world units."""
        return self._details["distance"]

    @property
    def size(self) -> int:
        """Size of the framed images that it was trained on, pixels."""
        return self._details["size"]

    @property
    def rows(self) -> int:
        """Number of rows of the table."""
        return self._details["rows"]

    @property
    def file(self) -> storage.InputRecord:
        """Name, size and digest of the model's file, as outputs record them."""
        return self._details["file"]

    @cached_property
    def principal(self) -> Principal:
        """The table as a Gaussian: mean, principal axes, standard deviations."""
        return models.Principal(**self._arrays("GET", f"/v1/models/{quote(self.name, safe='')}/principal"))

    @cached_property
    def codes(self) -> Float[np.ndarray, "rows latent"]:
        """The table: one latent code per row."""
        return self._table.latents

    @property
    def images(self) -> list[str]:
        """The path of each row's image."""
        return self._table.names

    @cached_property
    def _table(self) -> Objects:
        return self.objects("all")

    def objects(self, *references: str) -> Objects:
        """Objects as the command line names them: rows (``"0,5-9"``), files of latent codes (``"fitted.h5:0"``)."""
        if not references:
            raise InputError(
                "no objects; give rows such as 0,5-9, or a file of latent codes such as fitted.h5:0"
            )
        found = []
        for reference in references:
            if models.names_rows(reference):
                numbers = models.parse_numbers(reference, self.rows, reference, "rows")
                most = self._limits["max_codes"]
                found += [self._rows(numbers[start : start + most]) for start in range(0, len(numbers), most)]
            else:
                path, which = models.file_reference(reference)
                found.append(models.read_objects(self._shape, self.file["sha256"], path, which))
        return models.concatenate(found)

    def _rows(self, numbers: Sequence[int]) -> Objects:
        address = f"/v1/models/{quote(self.name, safe='')}/rows"
        arrays = self._arrays("GET", address, params={"rows": ",".join(map(str, numbers))})
        return models.Objects(
            names=arrays["name"].tolist(),
            status=["ok"] * len(numbers),
            rows=arrays["row"],
            latents=arrays["latents"],
            cameras=Cameras(arrays["intrinsics"], arrays["cam_to_world"]),
        )

    @cached_property
    def _shape(self) -> ModelShape:
        # Arrays without memory of their own: only their shapes count.
        arrays = {
            f"tuned/{path}": np.broadcast_to(np.float32(0), shape)
            for path, shape in self._details["parameters"].items()
        }
        return models.ModelShape(self.rows, self._details["code_size"], serve.unpack_delta(arrays))

    def draws_gaussian(self, sampling: SampleSettings) -> bool:
        """Whether new objects are drawn from the table's Gaussian, which needs no server."""
        usual = "gaussian" if self._details["latent"] == "continuous" else "codes"
        return (sampling.prior or usual) == "gaussian"

    def sample(self, sampling: SampleSettings = SampleSettings()) -> Float[np.ndarray, "samples latent"]:
        """Latent codes of new objects; sample i depends only on the seed and i. By other priors than ``gaussian`` the
        server draws them.

        Raises:
            InputError: the model lacks the prior, or there are more than the server allows.
        """
        if self.draws_gaussian(sampling):
            return super().sample(sampling)
        body = {"model": self.name, **asdict(sampling)}
        return self._arrays("POST", "/v1/sample", json=body)["latents"]

    def fit(
        self,
        images: Image | Sequence[Image],
        fitting: FitSettings = FitSettings(),
        *,
        progress: Progress = silent,
    ) -> Objects:
        """Latent codes and cameras of new images: files, folders of them, URLs of either in an object store, and
        upright RGB images in memory.

        Image files are sent as they are. The server chooses landmark estimators and the number of processes.

        Raises:
            InputError: a path does not exist, or no image is usable.
        """
        for name in ("landmarker", "models", "workers"):
            if getattr(fitting, name) is not None:
                raise InputError(f"`{name}` is the server's choice; leave it out")
        if fitting.start != "guess":
            raise InputError("`start` is the server's choice; leave it out")
        if fitting.residual:
            raise InputError("`residual` is not offered by servers; fit with the model's file")
        given = [images] if isinstance(images, Path | str | np.ndarray) else images
        inputs, names = inversion.name_images(given)
        found: list[Objects] = []
        for number, image in enumerate(inputs):
            found.append(self._fitted(image, names[number], fitting))
            progress(number + 1, len(inputs))
        status = [each.status[0] for each in found]
        if not storage.usable(status).any():
            raise inversion.NoUsableImageError(names, status, self.object_class.name)
        fitted = models.concatenate(found)
        fitted.extra.update(
            {name: np.concatenate([each.extra[name] for each in found]) for name in found[0].extra}
        )
        return fitted

    def _fitted(self, image: InputImage, name: str, fitting: FitSettings) -> Objects:
        """One image; its status says why it is unusable."""
        fields = {
            "model": self.name,
            "steps": fitting.steps,
            "tune": fitting.tune,
            "seed": fitting.seed,
            **({"tune_steps": fitting.tune_steps} if fitting.tune else {}),
            **({} if fitting.refine_cameras is None else {"refine_cameras": fitting.refine_cameras}),
        }
        try:
            arrays = self._arrays(
                "POST", "/v1/fit", data={key: str(value) for key, value in fields.items()},
                files={"image": image.encoded()},
            )  # fmt: skip
        except (_Unusable, UnreadableImageError) as error:
            return models.Objects(
                [name],
                [error.status],
                np.full(1, -1),
                self.principal.mean[None].astype(np.float32),
                Cameras(np.eye(3)[None], np.eye(4)[None]),
                extra={"fit_psnr": np.full(1, np.nan, np.float32), "fit_iterations": np.zeros(1, np.int32)},
            )
        delta = serve.unpack_delta(arrays)
        if delta:
            self._owners[_digest(delta)] = str(arrays["owner"])
        return models.Objects(
            names=[name],
            status=arrays["status"].tolist(),
            rows=arrays["row"],
            latents=arrays["latents"],
            cameras=Cameras(arrays["intrinsics"], arrays["cam_to_world"]),
            tuned={0: delta} if delta else {},
            images={0: arrays["image/0"]},
            extra={name: arrays[name] for name in ("fit_psnr", "fit_iterations")},
        )

    def render(
        self,
        codes: Codes,
        cameras: Cameras | None = None,
        rendering: RenderSettings = RenderSettings(),
        *,
        with_normals: bool = False,
        progress: Progress = silent,
    ) -> Views:
        """Every code from every camera; all arrays have the axes (code, view, line, column).

        Args:
            cameras: by default each object's own, that of its image.

        Raises:
            InputError: there are no codes, or no cameras, or a value is beyond the limits of the server.
        """
        objects = as_objects(codes)
        # Each request within the limits of the server.
        rays = (rendering.size_of(self) * rendering.antialias_of(self)) ** 2
        most = max(1, min(self._limits["max_views"], self._limits["max_rays"] // rays))
        tasks = [
            _Task(number, Cameras(*(part[start : start + most] for part in seen)))
            for number, seen in enumerate(cameras_of_each(objects, cameras))
            for start in range(0, len(seen.cam_to_world), most)
        ]
        # Images are on this machine, rows on the server.
        backdrop = rendering.backdrop(self.rows)
        if backdrop and backdrop.is_image:
            rendering = replace(rendering, background=None)
        settings = {"model": self.name, "with_normals": with_normals, **asdict(rendering)}

        def ask(task: _Task) -> dict[str, np.ndarray]:
            body = {
                **settings,
                "latents": [objects.latents[task.number].tolist()],
                "cameras": {name: part.tolist() for name, part in task.cameras._asdict().items()},
            }
            return self._arrays_of(objects.tuned.get(task.number), "/v1/render", body)

        parts: list[list[dict[str, np.ndarray]]] = [[] for _ in range(len(objects))]
        with ThreadPoolExecutor(_REQUESTS) as threads:
            try:
                for done, (task, arrays) in enumerate(zip(tasks, threads.map(ask, tasks), strict=True)):
                    parts[task.number].append(arrays)
                    progress(done + 1, len(tasks))
            finally:
                threads.shutdown(cancel_futures=True)
        views = render.Views(
            **{
                name: np.stack([np.concatenate([part[name][0] for part in each]) for each in parts])
                for name in _VIEW_ARRAYS
                if name in parts[0][0]
            }
        )
        return backdrop.over_image(views) if rendering.background is None and backdrop else views

    def mesh(self, codes: Codes, meshing: MeshSettings = MeshSettings()) -> Surface:
        """The surface of one object, see :func:`nerfgen.mesh.object_surface`.

        Raises:
            InputError: there is not exactly one object.
        """
        objects = one_object(codes)
        body = {"model": self.name, "latents": objects.latents.tolist(), **asdict(meshing)}
        arrays = self._arrays_of(objects.tuned.get(0), "/v1/mesh", body)
        found = mesh.Mesh(**{name: arrays[name] for name in ("vertices", "faces", "normals", "colors")})
        return mesh.Surface(found, float(arrays["level"]), int(arrays["parts"]))

    def save_mesh(self, path: Path, codes: Codes, meshing: MeshSettings = MeshSettings()) -> Surface:
        """:meth:`mesh`, written as GLB, PLY or OBJ by the suffix of its name; replaces what is there.

        Raises:
            InputError: another suffix, or not exactly one object.
        """
        mesh.check_mesh_name(path)
        found = self.mesh(codes, meshing)
        stage = storage.Stage(
            path, mesh.MESH_SCHEMA, self.object_class, parameters=asdict(meshing), inputs=[self.file]
        )
        mesh.write_surface(stage, found)
        return found

    def _arrays_of(
        self, delta: Mapping[str, Any] | None, address: str, body: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Arrays of an object, whose change of the networks the server gets first, unless it has it."""
        if not delta:
            return self._arrays("POST", address, json=body)
        for repetition in range(2):
            headers = {serve.OWNER_HEADER: self._owner(delta)}
            try:
                return self._arrays("POST", address, json=body, headers=headers)
            except _ForgottenError:
                if repetition:
                    raise
                self._owners.pop(_digest(delta), None)
        raise AssertionError

    def _owner(self, delta: Mapping[str, Any]) -> str:
        """The token under which the server keeps a change."""
        key = _digest(delta)
        with self._lock:
            if key not in self._owners:
                content = serve.pack(serve.pack_delta(delta))
                found = self._json("PUT", "/v1/personalise", params={"model": self.name}, content=content)
                self._owners[key] = found["owner"]
            return self._owners[key]

    def _json(self, method: str, address: str, **given: Any) -> Any:
        try:
            return self._asked(method, address, serve.JSON, **given).json()
        except ValueError as error:
            raise self._not_nerfgen(address) from error

    def _arrays(self, method: str, address: str, **given: Any) -> dict[str, np.ndarray]:
        return serve.unpack(self._asked(method, address, serve.NPZ, **given).content)

    def _asked(self, method: str, address: str, accept: str, **given: Any) -> httpx.Response:
        """The answer to a request, which is repeated where the server is busy.

        Raises:
            InputError: the server refuses it.
            NerfgenError: the server can't be reached, has a fault, or stays busy.
        """
        headers = {**given.pop("headers", {}), "Accept": accept}
        for repetition in range(_REPETITIONS + 1):
            try:
                answer = self._http.request(method, address, headers=headers, **given)
            except (self._errors, UnicodeError) as error:
                reason = str(error) or type(error).__name__
                raise NerfgenError(f"{self.url}: {reason}; is `nerfgen serve` running there?") from error
            if answer.status_code not in _BUSY or repetition == _REPETITIONS:
                break
            time.sleep(min(_seconds(answer.headers.get("Retry-After", "")) * 1.5**repetition, _MAX_WAIT))
        if answer.status_code == HTTPStatus.OK and answer.headers.get("content-type", "").startswith(accept):
            return answer
        raise self._error(answer, address, is_personal=serve.OWNER_HEADER in headers)

    def _error(self, answer: httpx.Response, address: str, *, is_personal: bool) -> NerfgenError:
        try:
            detail = answer.json()["detail"]
        except (ValueError, TypeError, KeyError):
            return self._not_nerfgen(address)
        first: dict[str, Any] = detail[0] if isinstance(detail, list) and detail else {}
        message = str(first.get("msg", detail))
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
            if first.get("type") == serve.UNUSABLE:
                return _Unusable(message, first["status"][0])
            field = ".".join(map(str, first.get("loc", [])[1:]))
            return InputError(message if field in message else f"{field}: {message}")
        if answer.status_code == HTTPStatus.NOT_FOUND and message != HTTPStatus.NOT_FOUND.phrase:
            return (_ForgottenError if is_personal else InputError)(message)
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return InputError(f"{self.url}: {message}")
        if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            return self._not_nerfgen(address)
        return NerfgenError(f"{self.url}: {message}")

    def _not_nerfgen(self, address: str) -> NerfgenError:
        return NerfgenError(f"{self.url}{address} is no answer of `nerfgen serve`; check the address")


def _seconds(text: str) -> float:
    """After which a server asks to try again."""
    return float(text) if text.isascii() and text.isdecimal() else 1.0


def _digest(delta: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for path, array in sorted(serve.pack_delta(delta).items()):
        digest.update(f"{path} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
