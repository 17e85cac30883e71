"""The endpoints of the service: what they take, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import (
    APIRouter,
    Depends,
    File,
    Form,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    UploadFile,
)

from nerfgen.live import ClosedError, ExpiredError, Job
from nerfgen.serve.answers import (
    choose_type,
    fitted_arrays,
    json_bytes,
    object_arrays,
    objects_record,
    rendered_bytes,
)
from nerfgen.serve.bodies import MeshBody, RenderBody, SampleBody
from nerfgen.serve.service import Fit, Service
from nerfgen.serve.wire import GLB, JPEG, JSON, MP4, NPZ, OBJ, OWNER_HEADER, PLY, PNG, Arrays, pack

Result = TypeVar("Result")

_VIEWS = (JSON, PNG, JPEG, NPZ, MP4)
_VALUES = (JSON, NPZ)
_MESHES = {GLB: ".glb", PLY: ".ply", OBJ: ".obj", NPZ: ""}
# The client has gone: nobody sees this answer but the metrics.
_GONE = 499

router = APIRouter(prefix="/v1")


async def _service(request: Request) -> Service:
    return request.app.state.service


Served = Annotated[Service, Depends(_service)]
Accept = Annotated[str, Header(include_in_schema=False)]
Owner = Annotated[
    str,
    Header(
        alias=OWNER_HEADER, description="Token of a personalisation: its networks render.", max_length=200
    ),
]
ModelName = Annotated[str, Path(description="Name of a model.", max_length=1000)]
ModelField = Annotated[str, Form(description="Name of the model; by default the first one.", max_length=1000)]
Steps = Annotated[int | None, Form(description="Steps of latent fitting; 100 by default.")]
TuneSteps = Annotated[int | None, Form(description="Steps of tuning; 100 by default.")]
RefineCameras = Annotated[bool | None, Form(description="Refine the cameras; by default if training did.")]
Seed = Annotated[int, Form(description="Seed of all random numbers.")]


def _answers(*types: str) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of an endpoint's media types."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {
            "description": "By `Accept`.",
            "content": {each: {} if each == JSON else binary for each in types},
        }
    }


@router.get("/models")
async def models(service: Served) -> Response:
    """The models: name, class, rows, sizes, variance along the principal axes, camera distance; and the limits."""
    return _answer(JSON, json_bytes({"models": service.models(), "limits": vars(service.limits)}))


@router.get("/models/{name}")
async def model(request: Request, service: Served, name: ModelName) -> Response:
    """One model, with the description of its class, the digest of its file, and the shapes of its networks."""
    return _answer(JSON, json_bytes(await _in_thread(request, lambda: service.details(name))))


@router.get("/models/{name}/principal", responses=_answers(JSON, NPZ))
async def principal(request: Request, service: Served, name: ModelName, accept: Accept = "*/*") -> Response:
    """The table of latent codes as a Gaussian: mean, principal axes, standard deviations."""
    media = _media(accept, _VALUES)
    return _answer(media, await _in_thread(request, lambda: _values(media, service.principal(name))))


@router.get("/models/{name}/rows", responses=_answers(JSON, NPZ))
async def rows(
    request: Request,
    service: Served,
    name: ModelName,
    rows: Annotated[str, Query(description="Rows of the table, such as `0,5-9`.", max_length=100_000)],
    accept: Accept = "*/*",
) -> Response:
    """Training objects: image name, latent code, and camera (pinhole matrix of a view of size 1, and pose)."""
    media = _media(accept, _VALUES)
    return _answer(
        media, await _in_thread(request, lambda: _values(media, object_arrays(service.rows(name, rows))))
    )


@router.post("/sample", responses=_answers(JSON, NPZ))
async def sample(request: Request, service: Served, body: SampleBody, accept: Accept = "*/*") -> Response:
    """Latent codes of new objects."""
    media = _media(accept, _VALUES)
    return _answer(
        media, await _in_thread(request, lambda: _values(media, object_arrays(service.sample(body))))
    )


@router.post("/render", responses=_answers(*_VIEWS))
async def render(
    request: Request, service: Served, body: RenderBody, accept: Accept = "*/*", owner: Owner = ""
) -> Response:
    """Views of objects: one view, a contact sheet with a row for each object, a video, PNGs in JSON, or arrays."""
    media = _media(accept, _VIEWS)
    service.require_room()
    plan = await _in_thread(request, lambda: service.plan(body, owner))
    future = service.render(plan)
    views = await _finished(request, future, future.cancel, service.capacity.deadline)
    result = await _in_thread(request, lambda: plan.result(views))
    content = await _in_thread(request, lambda: rendered_bytes(result, media, body.kind, body.fps))
    return _answer(media, content)


@router.post("/mesh", responses=_answers(*_MESHES))
async def mesh(
    request: Request, service: Served, body: MeshBody, accept: Accept = "*/*", owner: Owner = ""
) -> Response:
    """The surface of one object with colours, as a GLB, PLY or OBJ file, or as arrays."""
    media = _media(accept, tuple(_MESHES))
    job = await _in_thread(request, lambda: service.mesh(body, owner, _MESHES[media]))
    return _answer(media, await _done(request, service, job))


@router.post("/fit", responses=_answers(JSON, NPZ))
async def fit(
    request: Request,
    service: Served,
    image: Annotated[UploadFile, File(description="An image.")],
    model: ModelField = "",
    steps: Steps = None,
    refine_cameras: RefineCameras = None,
    tune: Annotated[
        bool, Form(description="Tune the networks to the image; the change is kept for its owner.")
    ] = False,
    tune_steps: TuneSteps = None,
    seed: Seed = 0,
    accept: Accept = "*/*",
) -> Response:
    """The latent code and the camera of an image, and how well it is reconstructed."""
    media = _media(accept, _VALUES)
    fitting = service.fitting(
        steps=steps, tune_steps=tune_steps, refine_cameras=refine_cameras, tune=tune, seed=seed
    )
    contents = [await image.read()]
    job = await _in_thread(request, lambda: service.fit(model, contents, fitting))
    found = await _done(request, service, job)
    return _answer(media, await _in_thread(request, lambda: _fitted(media, found)))


@router.post("/personalise", responses=_answers(JSON, NPZ))
async def personalise(
    request: Request,
    service: Served,
    images: Annotated[list[UploadFile], File(description="Images of one object.")],
    model: ModelField = "",
    steps: Steps = None,
    refine_cameras: RefineCameras = None,
    tune_steps: TuneSteps = None,
    seed: Seed = 0,
    accept: Accept = "*/*",
) -> Response:
    """Fit images of one object, and tune the networks once to all of them.

    The codes of the images share what they have in common; the last one of the answer is that of the object itself.
    The answer holds the token of their owner. Renderings and meshes that bring it as `X-Nerfgen-Owner` use the tuned
    networks, and name the images' objects as `fitted`.
    """
    media = _media(accept, _VALUES)
    fitting = service.fitting(
        steps=steps, tune_steps=tune_steps, refine_cameras=refine_cameras, tune=True, seed=seed
    )
    contents = [await image.read() for image in images]
    job = await _in_thread(request, lambda: service.fit(model, contents, fitting, shared=True))
    found = await _done(request, service, job)
    return _answer(media, await _in_thread(request, lambda: _fitted(media, found)))


@router.put("/personalise")
async def restore(
    request: Request,
    service: Served,
    model: Annotated[
        str, Query(description="Name of the model; by default the first one.", max_length=1000)
    ] = "",
) -> Response:
    """Keep a change of the networks that an earlier answer (`application/x-npz`) held; the token of its owner."""
    content = await request.body()
    owner = await _in_thread(request, lambda: service.restore(model, content))
    return _answer(JSON, json_bytes({"owner": owner}))


@router.delete("/personalise", status_code=HTTPStatus.NO_CONTENT)
async def forget(service: Served, owner: Annotated[str, Header(alias=OWNER_HEADER, max_length=200)]) -> None:
    """Forget what is kept for an owner."""
    service.owners.forget(owner)


def _media(accept: str, offered: Sequence[str]) -> str:
    media = choose_type(accept, offered)
    if not media:
        detail = f"Accept {accept[:200]!r}: there are only {', '.join(offered)}"
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, detail)
    return media


def _answer(media: str, content: bytes) -> Response:
    return Response(content, media_type=media, headers={"Vary": "Accept"})


def _in_thread(request: Request, work: Callable[[], Result]) -> Awaitable[Result]:
    """Work beside the event loop."""
    return asyncio.get_running_loop().run_in_executor(request.app.state.threads, work)


async def _done(request: Request, service: Service, job: Job[Result]) -> Result:
    return await _finished(request, job.future, job.cancel, service.capacity.fit_deadline)


async def _finished(
    request: Request, future: Future[Result], cancel: Callable[[], object], seconds: float
) -> Result:
    """The result of a future; it is cancelled when its client goes, or when the deadline passes.

    Raises:
        ExpiredError: the deadline passed.
        ClosedError: the service gave it up.
        HTTPException: the client has gone.
    """
    result = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(request))
    both: set[asyncio.Future[Any]] = {result, gone}
    try:
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if result.cancelled():
            raise ClosedError("the service is ending; try again when it is back")
        if result.done():
            return result.result()
        if gone.done():
            raise HTTPException(_GONE, "the client has gone")
        raise ExpiredError(
            "the deadline passed before the request was answered; try again later, or ask for less"
        )
    finally:
        gone.cancel()
        if not result.done():
            cancel()


async def _disconnected(request: Request) -> None:
    """Wait for the end of the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _values(media: str, arrays: Arrays) -> bytes:
    """Arrays as an answer."""
    return (
        pack(arrays) if media == NPZ else json_bytes({name: array.tolist() for name, array in arrays.items()})
    )


def _fitted(media: str, fit: Fit) -> bytes:
    """Fitted images as an answer."""
    if media == NPZ:
        return pack(fitted_arrays(fit.objects, fit.owner))
    return json_bytes({"owner": fit.owner or None, "images": objects_record(fit.objects)})
