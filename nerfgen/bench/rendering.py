"""How fast a model is rendered, and how near to the image of 128 even samples a ray."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from nerfgen.bench.timing import Say, median_in_turns
from nerfgen.field import FieldConfig
from nerfgen.field.radiance import render_rays
from nerfgen.geometry import Cameras, pixel_centers, pixel_rays, turned_cameras
from nerfgen.metric import psnr
from nerfgen.model import PRESETS, Model, load_model
from nerfgen.render import render_views
from nerfgen.synth import SynthSettings, synthesize
from nerfgen.train import TrainingFiles, train

_SAMPLES = 128
_SIZE = 128
_CHUNK = 4096
_YAWS = (-40.0, -25.0, -10.0, 0.0, 10.0, 20.0, 30.0, 40.0)
# The model that is made where none is given: enough for solid heads.
_IMAGES, _STEPS, _TRAINED_SIZE = 150, 800, 64


def measure_rendering(
    model: Path | None, *, objects: int, sizes: list[int], rounds: int, seconds: float, say: Say
) -> dict[str, object]:
    """Render views of training objects by :func:`nerfgen.render.render_views` and with even samples, in turns.

    Args:
        model: the file; None trains a small one of synthetic heads.
        objects: training objects whose images are compared.
        sizes: further sizes of images in pixels, for frames a second.
        seconds: no round begins after this time; compiling comes before the rounds.
    """
    loaded = load_model(model) if model else _made(say)
    cameras = turned_cameras(np.array(_YAWS), np.zeros(len(_YAWS)), loaded.distance)
    rows = np.unique(np.linspace(0, len(loaded.images) - 1, objects).astype(int))
    even = _Even(loaded)
    say("comparing images")
    agreements = []
    for row in rows:
        ours = render_views(loaded, *_views(loaded, row, cameras, _SIZE), _SIZE).rgb
        theirs = even.render(*_views(loaded, row, cameras, _SIZE), _SIZE)
        agreements += [psnr(one / 255, other) for one, other in zip(ours, theirs, strict=True)]
    views = _views(loaded, rows[0], cameras, _SIZE)
    tasks = {
        "ours": lambda: render_views(loaded, *views, _SIZE),
        "even": lambda: even.render(*views, _SIZE),
    }
    taken = median_in_turns(tasks, rounds=rounds, seconds=seconds, say=say)
    others = {
        str(size): partial(render_views, loaded, *_views(loaded, rows[0], cameras, size), size)
        for size in sizes
    }
    for size, task in others.items():
        say(f"compiling for {size} pixels")
        task()
    slower = median_in_turns(others, rounds=rounds, seconds=seconds, say=say) if others else {}
    count = len(_YAWS)
    return {
        "device": jax.devices()[0].device_kind,
        "views_of_an_object": count,
        "ms_per_view_128": 1e3 * taken["ours"] / count,
        "ms_per_view_128_uniform": 1e3 * taken["even"] / count,
        "speedup_over_128_uniform": taken["even"] / taken["ours"],
        "agreement_db": float(np.mean(agreements)),
        "agreement_db_least": float(np.min(agreements)),
        "frames_per_second": {size: count / value for size, value in slower.items()},
    }


class _Even:
    """The plain renderer: every ray through the box has the same number of even samples; one compiled program."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._field = jax.tree.map(jnp.asarray, model.parameters)

    def render(
        self,
        latents: Float[np.ndarray, "views latent"],
        intrinsics: Float[np.ndarray, "views 3 3"],
        cam_to_world: Float[np.ndarray, "views 4 4"],
        size: int,
    ) -> Float[np.ndarray, "views size size 3"]:
        """Images with background, in [0, 1]."""
        centers = jnp.asarray(pixel_centers(size), jnp.float32)
        images = []
        for view in range(len(latents)):
            camera = (jnp.asarray(array[view], jnp.float32) for array in (intrinsics, cam_to_world))
            origins, directions = pixel_rays(centers, *camera)
            code = jnp.asarray(latents[view], jnp.float32)
            parts = [
                _even(
                    self._model.config,
                    self._field,
                    code,
                    origins[start : start + _CHUNK],
                    directions[start : start + _CHUNK],
                )
                for start in range(0, len(centers), _CHUNK)
            ]
            images.append(np.concatenate([np.asarray(part) for part in parts]))
        return np.stack(images).reshape(-1, size, size, 3).clip(0, 1)


@partial(jax.jit, static_argnums=0)
def _even(
    config: FieldConfig, field: dict[str, PyTree], code: Array, origins: Array, directions: Array
) -> Array:
    rays, background = render_rays(
        config, field, code[None], origins[None], directions[None], samples=_SAMPLES
    )
    return (rays.color + (1 - rays.opacity[..., None]) * background)[0]


def _views(model: Model, row: int, cameras: Cameras, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes = np.tile(model.latents[row], (len(cameras.cam_to_world), 1))
    return codes, cameras.matrices(size), cameras.cam_to_world


def _made(say: Say) -> Model:
    say(f"training a model of {_IMAGES} synthetic heads with true cameras")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        truth = synthesize("heads", folder, SynthSettings(num_images=_IMAGES, size=_TRAINED_SIZE, views=0))
        recipe = PRESETS["fast"].with_values(steps=_STEPS, camera_learning_rate=0)
        files = TrainingFiles(folder, truth, truth, folder / "model.h5")
        train(files, recipe, object_class="heads")
        return load_model(files.output)
