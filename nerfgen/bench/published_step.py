"""The published training step: ours, PyTorch's, and what the machine could do."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nerfgen.bench.timing import Say, median_in_turns, seconds_of
from nerfgen.bench.training_step import CLASS, SEED, Stepper, fresh_state, random_batches
from nerfgen.geometry import pixel_rays
from nerfgen.model import Recipe
from nerfgen.model.recipe import PAPER
from nerfgen.storage import Record
from nerfgen.volume import box_bounds, stratified_samples

TORCH_MISSING = "PyTorch is not installed, so its figures are null: pip install torch==2.13.0"
_ROWS = 1000
_TORCH = ("eager", "compiled", "bf16")
# Where bfloat16 is not a machine's own, a step of full size can take minutes: it gets as many images as this allows,
# or, where one is too long, a few rays.
_BF16_SECONDS, _BF16_RAYS = 8.0, 4


def measure_training(
    *, images: int, rays_per_image: int, width: int, rounds: int, seconds: float, say: Say
) -> Record:
    """Rays a second of our step and of PyTorch's, and operations a second of our step and of a large product.

    Args:
        seconds: no round begins after this time; compiling comes before the rounds.
    """
    preset = replace(PAPER, images_per_batch=images, rays_per_image=rays_per_image, width=width)
    on_cpu = jax.default_backend() == "cpu"
    # Ours takes bfloat16 where training would choose it.
    kinds: dict[str, Literal["float32", "bfloat16"]]
    kinds = {"": "float32"} if on_cpu else {"": "float32", "bf16_": "bfloat16"}
    size = 2048 if on_cpu else 8192
    say("compiling our step")
    steppers = {name: Stepper(preset, _ROWS, precision=kind) for name, kind in kinds.items()}
    products = {name: Product(kind, size) for name, kind in kinds.items()}
    torch_steps, torch_loss = _torch_steps(preset, say)
    tasks: dict[str, Callable[[], object]] = {
        f"{name}step": functools.partial(stepper.run, 1) for name, stepper in steppers.items()
    }
    # As many as take the time of a step, so that what others do weighs on both alike.
    repeats = round(max(1.0, seconds_of(tasks["step"]) / seconds_of(products[""])))
    tasks |= {f"{name}product": functools.partial(p.repeat, repeats) for name, p in products.items()}
    tasks |= {f"torch_{name}": step for name, step in torch_steps.items()}
    taken = median_in_turns(tasks, rounds=rounds, seconds=seconds, say=say)

    result: Record = {
        "platform": jax.default_backend(),
        "images": images,
        "rays_per_image": rays_per_image,
        "samples": preset.samples,
        "width": width,
        "step_flops": step_flops(preset),
    }
    for name in ("", "bf16_"):
        measured: Record = dict.fromkeys(_OURS)
        if name in kinds:
            speed = result["step_flops"] / taken[f"{name}step"]
            peak = repeats * products[name].flops / taken[f"{name}product"]
            rays = images * rays_per_image / taken[f"{name}step"]
            measured = dict(zip(_OURS, (rays, speed, peak, speed / peak), strict=True))
        result |= {name + key: value for key, value in measured.items()}
    for name in _TORCH:
        theirs = torch_steps[name].rays / taken[f"torch_{name}"] if name in torch_steps else None
        ours = result["bf16_rays_per_second" if name == "bf16" and not on_cpu else "rays_per_second"]
        result[f"torch_{name}_rays_per_second"] = theirs
        result[f"ratio_torch_{name}"] = ours / theirs if theirs else None
    first = steppers[""].first_loss
    result["torch_bf16_rays"] = torch_steps["bf16"].rays if "bf16" in torch_steps else None
    result["torch_loss_difference"] = None if torch_loss is None else abs(torch_loss / first - 1)
    return result


_OURS = ("rays_per_second", "step_flops_per_second", "matmul_flops_per_second", "fraction_of_matmul_peak")


def _torch_steps(preset: Recipe, say: Say) -> tuple[Record, float | None]:
    """The ways of ``_TORCH`` that work here, warmed up, and the loss that its first step should share with ours."""
    if importlib.util.find_spec("torch") is None:
        say(TORCH_MISSING)
        return {}, None
    from nerfgen.bench.torch_step import Rays, TorchStep

    state, batch = fresh_state(preset, _ROWS), next(random_batches(preset, _ROWS, 1))
    origins, directions = pixel_rays(batch.centers, batch.intrinsics, batch.cam_to_world)
    near, far = box_bounds(origins, directions, CLASS.bounds)
    arrays = (batch.images, origins, directions, near, far, batch.rgb_mask / np.float32(255))
    rays = Rays(*(np.asarray(array) for array in arrays))
    make = functools.partial(
        TorchStep,
        jax.tree.map(np.asarray, state.networks["field"]),
        np.asarray(state.latents),
        preset,
        CLASS.bounds,
    )
    say("warming up PyTorch")
    steps = {"eager": make(rays)}
    loss = steps["eager"].loss_at(np.asarray(_first_shares(preset)))
    steps["eager"]()
    say("compiling PyTorch's step")
    try:
        compiled = make(rays, compiled=True)
        compiled()
        steps["compiled"] = compiled
    except Exception as error:  # of whatever compiler it calls
        reason = str(error).strip().partition("\n")[0]
        say(f"torch.compile failed, so its figures are null: {type(error).__name__}: {reason}")
    say("trying bfloat16 in PyTorch")
    few = rays.first(1, _BF16_RAYS)
    trial = make(few, precision="bfloat16")
    trial()
    each = seconds_of(trial) / trial.rays * preset.rays_per_image
    affordable = min(preset.images_per_batch, int(_BF16_SECONDS / each))
    steps["bf16"] = trial
    if affordable:
        steps["bf16"] = make(rays.first(affordable, preset.rays_per_image), precision="bfloat16")
        steps["bf16"]()
    return steps, loss


def _first_shares(preset: Recipe) -> Float[Array, "images rays samples"]:
    """Where our first step takes its samples, as shares of the way through the box."""
    sample_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(SEED), 0))
    keys = jax.random.split(sample_key, preset.images_per_batch)
    near = jnp.zeros((preset.images_per_batch, preset.rays_per_image))
    return stratified_samples(keys, near, near + 1, preset.samples).distances


def step_flops(preset: Recipe) -> int:
    """Floating-point operations of the matrix products of one step of the ``mlp`` field; two for each multiplication.

    Only what the method needs: forwards, and for the gradient once more for the weights and once more for what the
    layer saw, but not for the encoded points and directions, which nothing learns from. The code's share of a
    layer is one product an image.
    """
    width, points = preset.width, 3 + 6 * preset.frequencies
    # Learned from on both sides, and on the side of the weights only.
    both = (preset.depth - 1) * width**2 + 4 * width
    weights_only = 2 * points * width
    samples = preset.images_per_batch * preset.rays_per_image * preset.samples
    foreground = samples * (3 * both + 2 * weights_only)

    width, directions = preset.background_width, 3 + 6 * 2
    both = (preset.background_depth - 1) * width**2 + 3 * width
    rays = preset.images_per_batch * preset.rays_per_image
    background = rays * (3 * both + 2 * directions * width)

    codes = 3 * preset.images_per_batch * preset.latent_size * (2 * preset.width + preset.background_width)
    return 2 * (foreground + background + codes)


class Product:
    """A product of two square matrices, to be called; ``flops`` are the operations of one."""

    def __init__(self, kind: str, size: int) -> None:
        self.flops = 2 * size**3
        keys = jax.random.split(jax.random.key(0))
        self._factors = [jax.random.normal(key, (size, size)).astype(kind) for key in keys]
        self._multiply: Callable[..., jax.Array] = jax.jit(jnp.matmul)
        self()

    def __call__(self) -> None:
        jax.block_until_ready(self._multiply(*self._factors))

    def repeat(self, times: int) -> None:
        """So many products, one after the other."""
        for _ in range(times):
            self()
