"""How a run is computed: devices, precision, memory. What it computes is the recipe's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nerfgen.errors import InputError
from nerfgen.settings import Settings, setting

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from nerfgen.model import Recipe

# On a CPU, points whose activations in a coordinate network stay in its caches.
_POINTS_IN_CACHE = 4096
# Arrays of the hidden layers' size that a pass keeps for its gradient, beside those of the layers themselves.
_FURTHER_LAYERS = 4
# Fraction of a device's free memory that the activations of a pass may take, and the bytes where it is unknown.
_MEMORY_FRACTION, _ACTIVATION_BYTES = 0.5, 8 << 30


@dataclass(frozen=True)
class Machine(Settings, title="Machine"):
    """Choices that change speed and memory, and results only by rounding."""

    devices: int | None = setting(
        None,
        minimum=1,
        zero_is_default=True,
        help="Number of JAX's devices to use; all by default. On a CPU more than one splits its cores.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        help="Factors of the networks' matrix products; [bold]auto[/bold]: float32 on a CPU, bfloat16 elsewhere. "
        "Geometry is always float32.",
    )
    micro_batch: int | None = setting(
        None,
        minimum=1,
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

    def effective_precision(self, mesh: Mesh) -> str:
        """``float32`` or ``bfloat16``."""
        from nerfgen.optimize import platform

        if self.precision != "auto":
            return self.precision
        return "float32" if platform(mesh) == "cpu" else "bfloat16"

    def images_per_pass(self, recipe: Recipe, mesh: Mesh) -> int:
        """Images per device in one pass of the step: a divisor of those that the device has.

        Raises:
            InputError: the batch can't be divided so.
        """
        from nerfgen.optimize import platform

        shared = {"images_per_batch": recipe.images_per_batch}
        if recipe.lambda_perceptual > 0:
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
            most = self._activation_bytes(mesh) // (points * self._bytes_per_point(recipe))
        return max(count for count in range(1, own + 1) if own % count == 0 and count <= max(1, most))

    def _activation_bytes(self, mesh: Mesh) -> int:
        """Memory for the activations of one pass, on each device."""
        from nerfgen.optimize import free_device_memory

        free = free_device_memory(mesh.devices.flat[0])
        return _ACTIVATION_BYTES if free is None else int(_MEMORY_FRACTION * free)

    def _bytes_per_point(self, recipe: Recipe) -> int:
        """Memory of a point's activations."""
        layers = _FURTHER_LAYERS + (0 if self.rematerialise else recipe.depth)
        return 4 * recipe.width * layers
