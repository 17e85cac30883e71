"""How a run is computed: devices, precision, memory. What it computes is the recipe's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nerfgen import memory
from nerfgen.errors import InputError
from nerfgen.settings import MAX_COUNT, Settings, setting

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from nerfgen.model import Recipe

# On a CPU, points whose activations in a coordinate network stay in its caches.
_POINTS_IN_CACHE = 4096
# Arrays of the hidden layers' size that a pass keeps for its gradient, beside those of the layers themselves.
_FURTHER_LAYERS = 4
# Fraction of a device's free memory that the activations of a pass may take, and the bytes where it is unknown.
_MEMORY_FRACTION, _ACTIVATION_BYTES = 0.5, 8 << 30
# Of the networks: parameters, gradient and moments. Of the table: codes and moments.
_NETWORK_COPIES, _TABLE_COPIES = 4, 3
# A ray's origin, direction and colours; a pixel's samples, index and masks while an image is framed.
_NUMBERS_PER_RAY, _NUMBERS_PER_PIXEL = 16, 12


@dataclass(frozen=True)
class Machine(Settings, title="Machine"):
    """Choices that change speed and memory, and results only by rounding."""

    devices: int | None = setting(
        None,
        minimum=1,
        maximum=1024,
        zero_is_default=True,
        help="Number of JAX's devices to use; all by default. On a CPU more than one splits its cores.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        help="Factors of the networks' matrix products; [bold]auto[/bold]: bfloat16 on GPUs and TPUs, and for the "
        "published networks on CPUs with units for it, else float32. Geometry is always float32.",
    )
    micro_batch: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_COUNT,
        zero_is_default=True,
        help="Images per device in one pass, whose gradients add up; fewer take less memory. By default what fits.",
    )
    rematerialise: bool = setting(
        False, option="--remat", help="Compute activations again for the gradient instead of keeping them."
    )
    placement: Literal["auto", "device", "host", "disk"] = setting(
        "auto",
        option="--data",
        help="Where pixels are kept; [bold]auto[/bold]: the first of device, host and disk with room.",
    )
    cache: Path | None = setting(
        None,
        metavar="FILE",
        help="File of the framed pixels; by default one beside the images, or beside the model where nothing can be "
        "written there, named by its content.",
    )

    def mesh(self) -> Mesh:
        """The devices as a mesh of one axis.

        Raises:
            InputError: JAX has fewer.
        """
        from nerfgen.optimize import device_mesh

        return device_mesh(self.devices)

    def execution(self, recipe: Recipe, mesh: Mesh) -> dict[str, Any]:
        """How the step of a recipe is computed, by the names that :class:`nerfgen.train.StepPlan` has for it.

        Raises:
            InputError: the batch can't be divided among the devices.
        """
        return {
            "num_devices": mesh.size,
            "images_per_pass": self.images_per_pass(recipe, mesh),
            "precision": self.effective_precision(recipe, mesh),
            "rematerialise": self.rematerialise,
        }

    def effective_precision(self, recipe: Recipe, mesh: Mesh) -> str:
        """``float32`` or ``bfloat16``."""
        from nerfgen.optimize import cpu_multiplies_bfloat16, platform

        if self.precision != "auto":
            return self.precision
        if platform(mesh) == "cpu":
            # The layers of `planes` are so narrow that products take little of a step.
            return "bfloat16" if recipe.field == "mlp" and cpu_multiplies_bfloat16() else "float32"
        return "bfloat16"

    def images_per_pass(self, recipe: Recipe, mesh: Mesh) -> int:
        """Images per device in one pass of the step: a divisor of those that the device has.

        Raises:
            InputError: the batch can't be divided so.
        """
        from nerfgen.optimize import platform

        shared = {"images_per_batch": recipe.images_per_batch}
        if recipe.has_patches:
            shared["patches_per_batch"] = recipe.patches_per_batch
        for name, count in shared.items():
            if count % mesh.size:
                raise InputError(
                    f"`{name}` {count} can't be divided among {mesh.size} devices; "
                    "choose a multiple, or other `devices`"
                )
        own = recipe.images_per_batch // mesh.size
        if self.micro_batch:
            if own % self.micro_batch:
                raise InputError(
                    f"`micro_batch` {self.micro_batch} does not divide the {own} images of a device"
                )
            return self.micro_batch
        if recipe.field != "mlp":
            return own
        points = recipe.rays_per_image * recipe.samples
        if platform(mesh) == "cpu":
            most = _POINTS_IN_CACHE // points
        else:
            most = self._activation_bytes(mesh) // (points * self._bytes_per_point(recipe, mesh))
        return max(count for count in range(1, own + 1) if own % count == 0 and count <= max(1, most))

    def require_memory(self, recipe: Recipe, images: int, mesh: Mesh) -> None:
        """Refuse a run that would not fit into the memory, by what it takes at least.

        Args:
            images: number of images, with a latent code each.

        Raises:
            InputError: the devices, or the host that they share, have less.
        """
        from nerfgen.optimize import free_device_memory

        code = sum(recipe.field_config((1.0, 1.0, 1.0)).code_parts)
        latent, width = recipe.latent_size, recipe.width
        plane = 3 * recipe.plane_size**2 * recipe.plane_channels if recipe.field == "planes" else 0
        networks = latent * (plane + width) + width**2 * (recipe.depth - 1)
        points = recipe.rays_per_image * recipe.samples
        a_pass = self.images_per_pass(recipe, mesh) * (plane + points * width)
        sizes = {
            f"the networks (`latent_size` {latent}, `width` {width}, `depth` {recipe.depth}, `plane_size` "
            f"{recipe.plane_size})": (_NETWORK_COPIES + (recipe.average_decay > 0)) * networks,
            f"latent codes of {images:,} images (`latent_size` {latent})": _TABLE_COPIES * images * code,
            f"steps of `images_per_batch` {recipe.images_per_batch} images with `rays_per_image` "
            f"{recipe.rays_per_image} rays of `samples` {recipe.samples}": a_pass
            + recipe.images_per_batch * (code + _NUMBERS_PER_RAY * recipe.rays_per_image),
            f"images of {recipe.size:,} x {recipe.size:,} pixels (`size`)": _NUMBERS_PER_PIXEL
            * recipe.size**2,
        }
        free = free_device_memory(mesh.devices.flat[0])
        hosts = len({device.process_index for device in mesh.devices.flat})
        available = max((free or 0) * mesh.size, hosts * memory.total_memory())
        for what, numbers in sizes.items():
            memory.require_memory(4 * numbers, what, available=available)

    def _activation_bytes(self, mesh: Mesh) -> int:
        """Memory for the activations of one pass, on each device."""
        from nerfgen.optimize import free_device_memory

        free = free_device_memory(mesh.devices.flat[0])
        return _ACTIVATION_BYTES if free is None else int(_MEMORY_FRACTION * free)

    def _bytes_per_point(self, recipe: Recipe, mesh: Mesh) -> int:
        """Memory of a point's activations."""
        layers = _FURTHER_LAYERS + (0 if self.rematerialise else recipe.depth)
        number = 4 if self.effective_precision(recipe, mesh) == "float32" else 2
        return number * recipe.width * layers
