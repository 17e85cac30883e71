"""The JSON that requests bring, as pydantic models: names, types and meanings. Values are checked by the library."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from nerfgen.model import Prior
from nerfgen.render import Kind

# Of lists, before anything is computed from them; the limits of the server are narrower.
_MOST = 100_000

Numbers = Annotated[list[float], Field(max_length=_MOST)]
Vector = tuple[float, float, float]
Matrix3 = tuple[Vector, Vector, Vector]
Row4 = tuple[float, float, float, float]
Matrix4 = tuple[Row4, Row4, Row4, Row4]


class Body(BaseModel):
    """Of all requests: unknown fields are refused, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class CamerasBody(Body):
    """Cameras: angles around the object, an orbit, a position, or matrices."""

    yaw: Numbers | None = Field(
        None, description="Turns about +y, degrees; each is combined with each pitch."
    )
    pitch: Numbers | None = Field(None, description="Turns about the viewer's +x, degrees; 0 by default.")
    orbit: int | None = Field(
        None, description="Views on a closed path: a full turn, or a swing to both sides for faces."
    )
    distance: float | None = Field(
        None, description="From the origin, world units; by default the median of the training cameras."
    )
    fov: float | None = Field(
        None, description="Field of view, degrees; by default the unit sphere fills the image."
    )
    position: Vector | None = Field(None, description="One camera at this point of the world.")
    look: Vector | None = Field(
        None, description="Viewing direction of `position`; by default to the origin."
    )
    intrinsics: Annotated[list[Matrix3], Field(max_length=_MOST)] | None = Field(
        None, description="Pinhole matrices of a view of size 1, one for each view; with `cam_to_world`."
    )
    cam_to_world: Annotated[list[Matrix4], Field(max_length=_MOST)] | None = Field(
        None, description="Poses: OpenCV camera axes to world coordinates."
    )


class Draw(Body):
    """New objects."""

    count: int = Field(8, description="Number of new objects.")
    truncation: float = Field(0.7, description="Truncate the Gaussian at this many standard deviations.")
    components: int | None = Field(None, description="Principal axes that vary; all by default.")
    seed: int = Field(0, description="Seed of all random numbers.")
    prior: Prior | None = Field(
        None,
        description="Distribution that they are drawn from; by default gaussian, or codes for models with "
        "vector-quantised latent codes.",
    )


class ModelBody(Body):
    """A request to one model."""

    model: str = Field("", max_length=1000, description="Name of the model; by default the first one.")


class SampleBody(ModelBody, Draw):
    """New objects of a model."""


class ObjectsBody(ModelBody):
    """Objects of a model; of one source."""

    rows: Annotated[list[int], Field(max_length=_MOST)] | str | None = Field(
        None, description="Rows of the table: numbers, or a text such as `0,5-9`."
    )
    latents: Annotated[list[Numbers], Field(max_length=_MOST)] | None = Field(
        None, description="Latent codes."
    )
    coordinates: Annotated[list[Numbers], Field(max_length=_MOST)] | None = Field(
        None,
        description="Objects by their coordinates along the first principal axes, standard deviations; 0 along the "
        "others.",
    )
    sample: Draw | None = Field(None, description="New objects.")
    fitted: Annotated[list[int], Field(max_length=_MOST)] | None = Field(
        None, description="Fitted images of the owner that X-Nerfgen-Owner names, by number."
    )


class RenderBody(ObjectsBody):
    """Views of objects from cameras."""

    cameras: CamerasBody | None = Field(None, description="By default each object's own, that of its image.")
    size: int | None = Field(None, description="Size of a view, pixels; as trained by default.")
    samples: int | None = Field(None, description="Samples per ray that meets the object.")
    antialias: int | None = Field(None, description="Rays per pixel along each axis, which are averaged.")
    background: str | None = Field(
        None,
        max_length=100,
        description="What is behind the objects: a colour such as `white` or `#4080c0`, or a row of the table, whose "
        "background is shown; by default each object's own.",
    )
    kind: Kind = Field("rgb", description="What PNGs, contact sheets and videos show.")
    with_normals: bool = Field(False, description="Also compute normals, for `application/x-npz`.")
    fps: float = Field(24.0, ge=0.01, le=120, description="Frames per second of a video.")


class MeshBody(ObjectsBody):
    """The surface of one object."""

    resolution: int = Field(128, description="Cells of the grid along the longest side of the class's box.")
    level: float | None = Field(
        None, description="Density of the surface, per world unit; by default where rendering shows it."
    )
    largest: bool = Field(True, description="Keep the largest of separate parts only.")
    watertight: bool = Field(False, description="Close the surface where the box cuts the object.")
    faces: int | None = Field(None, description="Simplify to this many triangles.")
