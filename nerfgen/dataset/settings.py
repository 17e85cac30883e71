"""What a dataset is to hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from nerfgen.dataset.pose import PoseDistribution
from nerfgen.errors import InputError


@dataclass(frozen=True)
class Settings:
    """What a dataset is to hold.

    Attributes:
        identities, views: objects, and pictures of each.
        size: edge of the pictures, pixels; 0: as the model was trained.
        samples, antialias: see :func:`nerfgen.generate.render_views`; an antialias of 0 is
            :func:`nerfgen.generate.fitting_antialias`.
        truncation, components, seed: of the draws, see :func:`nerfgen.generate.draw_identities`.
        poses: of the cameras.
        min_distance: draw again what is nearer to a training row, in the distance of
            :class:`nerfgen.generate.Neighbours`.
        transforms: also write ``transforms.json`` for each identity.
        shard_size: identities a shard.
    """

    identities: int
    views: int = 8
    size: int = 0
    samples: int = 0
    antialias: int = 0
    truncation: float = 0.7
    components: int = 0
    seed: int = 0
    poses: PoseDistribution = field(default_factory=PoseDistribution)
    min_distance: float = 0.0
    transforms: bool = False
    shard_size: int = 100

    @property
    def shards(self) -> dict[str, range]:
        """The identities of every shard, by its name."""
        starts = range(0, self.identities, self.shard_size)
        return {
            f"shard-{number:05d}": range(start, min(start + self.shard_size, self.identities))
            for number, start in enumerate(starts)
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """All that the picture of an identity depends on: neither how many there are nor how they are dealt out."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ("identities", "shard_size")}


@dataclass(frozen=True)
class Part:
    """Every ``of``-th shard from the ``number``-th, counted from 1: what one machine of several renders."""

    number: int = 1
    of: int = 1


def parse_part(text: str) -> Part:
    """A part from words such as ``2/8``.

    Raises:
        InputError: it is none.
    """
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise InputError(f"--shard {text}: give K/N such as 2/8, the second of eight parts")
    return Part(int(number), int(of))
