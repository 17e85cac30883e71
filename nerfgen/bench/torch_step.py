"""The published training step in PyTorch, written the usual way: the code stands beside every sample.

Imports PyTorch, which nothing else of nerfgen needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional

from nerfgen.model import Recipe

Array = Any  # of PyTorch


@dataclass(frozen=True)
class Rays:
    """What a step sees. Arrays are of numpy or of PyTorch.

    Attributes:
        images: rows of the table.
        origins, directions: of the rays, in the world.
        near, far: where the rays enter and leave the box.
        target: colour and mask in [0, 1].
    """

    images: Int[Array, "images"]
    origins: Float[Array, "images rays 3"]
    directions: Float[Array, "images rays 3"]
    near: Float[Array, "images rays"]
    far: Float[Array, "images rays"]
    target: Float[Array, "images rays 4"]

    def first(self, images: int, rays: int) -> Rays:
        """A part: the first rays of the first images."""
        return self._each(lambda array: array[:images] if array.ndim == 1 else array[:images, :rays])

    def on(self, device: str) -> Rays:
        """The same as tensors."""
        return self._each(lambda array: torch.as_tensor(np.array(array), device=device))

    def _each(self, change: Callable[[Any], Any]) -> Rays:
        return Rays(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


class Networks(torch.nn.Module):
    """Foreground and background networks with our parameters, and the loss of some rays."""

    def __init__(
        self, parameters: Mapping[str, Any], preset: Recipe, bounds: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.preset, self.skip = preset, preset.depth // 2
        self.register_buffer("bounds", torch.tensor(bounds))
        near, far = parameters["foreground"], parameters["background"]
        layers = [_linear(near["point_0"], near["latent_0"])]
        for layer in range(1, preset.depth):
            joined = [near[f"point_{layer}"], near[f"latent_{layer}"]] if layer == self.skip else []
            layers.append(_linear(near[f"hidden_{layer}"], *joined))
        self.layers = torch.nn.ModuleList(layers)
        self.output = _linear(near["output"])
        behind = [_linear(far["direction_0"], far["latent_0"])]
        behind += [_linear(far[f"hidden_{layer}"]) for layer in range(1, preset.background_depth)]
        self.background_layers = torch.nn.ModuleList(behind)
        self.background_output = _linear(far["output"])

    def forward(self, codes: Array, rays: Rays, shares: Array) -> Array:
        """The loss of samples at ``shares`` of the way through the box."""
        preset, length = self.preset, rays.far - rays.near
        distances = rays.near[..., None] + length[..., None] * shares
        points = rays.origins[..., None, :] + distances[..., None] * rays.directions[..., None, :]
        local = points / self.bounds
        raw = self._foreground(codes, local)
        inside = (local.abs() <= 1).all(-1)
        density = preset.density_scale * functional.softplus(raw[..., 0] - 1.5) * inside
        optical = density * (length / preset.samples)[..., None]
        weights = torch.exp(optical - optical.cumsum(-1)) * -torch.expm1(-optical)
        opacity = weights.sum(-1)
        color = (weights[..., None] * torch.sigmoid(raw[..., 1:])).sum(-2)
        color = color + (1 - opacity)[..., None] * self._background(codes, rays.directions)
        rgb = ((color - rays.target[..., :3]) ** 2).sum(-1).mean()
        mask = ((opacity - rays.target[..., 3]) ** 2).mean()
        modes = torch.logaddexp(-weights.abs(), -(1 - weights).abs())
        hard = math.log1p(math.exp(-1.0)) - modes.mean()
        return rgb + preset.lambda_mask * mask + preset.lambda_hard * hard

    def _foreground(self, codes: Array, points: Array) -> Array:
        beside = codes[:, None, None].expand(*points.shape[:-1], -1)
        seen = torch.cat([_encoded(points, self.preset.frequencies), beside], -1)
        hidden = seen
        for number, layer in enumerate(self.layers):
            hidden = torch.relu(layer(torch.cat([hidden, seen], -1) if number == self.skip else hidden))
        return self.output(hidden).float()

    def _background(self, codes: Array, directions: Array) -> Array:
        beside = codes[:, None].expand(*directions.shape[:-1], -1)
        hidden = torch.cat([_encoded(directions, 2), beside], -1)
        for layer in self.background_layers:
            hidden = torch.relu(layer(hidden))
        return torch.sigmoid(self.background_output(hidden).float())


class TorchStep:
    """One way to take the step, to be called: forwards, backwards and Adam on networks and codes.

    Args:
        parameters, table: ours, to begin with.
        compiled: by ``torch.compile``.
        precision: ``bfloat16`` computes under autocast.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        table: Float[np.ndarray, "rows latent"],
        preset: Recipe,
        bounds: tuple[float, float, float],
        rays: Rays,
        *,
        compiled: bool = False,
        precision: str = "float32",
    ) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_float32_matmul_precision("highest")  # as ours; changes nothing on a CPU
        self._networks = Networks(parameters, preset, bounds).to(self._device)
        self._table = torch.nn.Parameter(torch.tensor(table, device=self._device))
        self._loss = torch.compile(self._networks) if compiled else self._networks
        self._rays, self._rounded = rays.on(self._device), precision == "bfloat16"
        self._adam = torch.optim.Adam(
            [
                {"params": self._networks.parameters(), "lr": preset.learning_rate},
                {"params": [self._table], "lr": preset.latent_learning_rate},
            ],
            betas=(0.9, preset.adam_b2),
        )
        self._steps = torch.arange(preset.samples, device=self._device)
        self.rays = rays.near.size

    def loss(self, shares: Float[Array, "images rays samples"]) -> Array:
        """Of the networks as they are, with samples at ``shares`` of the way through the box."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self._rounded):
            return self._loss(self._table[self._rays.images.long()], self._rays, shares)

    def __call__(self) -> None:
        drawn = torch.rand(*self._rays.near.shape, len(self._steps), device=self._device)
        self._adam.zero_grad()
        self.loss((self._steps + drawn) / len(self._steps)).backward()
        self._adam.step()
        if self._device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def loss_at(self, shares: Float[np.ndarray, "images rays samples"]) -> float:
        """The same, as a number."""
        return self.loss(torch.tensor(shares, device=self._device)).item()


def _linear(*parts: Mapping[str, Any]) -> torch.nn.Linear:
    """One layer on a concatenation from our layers on its parts."""
    weight = np.concatenate([np.asarray(part["kernel"]) for part in parts]).T
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(sum(np.asarray(part["bias"]) for part in parts if "bias" in part)))
    return layer


def _encoded(points: Array, frequencies: int) -> Array:
    octaves = math.pi * 2.0 ** torch.arange(frequencies, device=points.device)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([points, torch.sin(angles), torch.cos(angles)], -1)
