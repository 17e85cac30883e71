"""Settings of synthetic images."""

from __future__ import annotations

from dataclasses import dataclass

from nerfgen.memory import require_memory
from nerfgen.settings import MAX_SEED, SettingError, Settings, setting

_MOST_IMAGES = 10_000_000
# A pixel of an image that is being rendered, with its rays, and of one that waits to be written.
_BYTES_PER_RENDERING, _BYTES_PER_IMAGE = 400, 12


@dataclass(frozen=True)
class SynthSettings(Settings, title="Objects and images"):
    """What is rendered of a procedural class."""

    num_images: int = setting(
        100,
        minimum=1,
        maximum=1_000_000,
        option=("-n", "--num-images"),
        help="Objects, with one image each by default.",
    )
    size: int = setting(128, minimum=16, maximum=2048, unit="pixels", help="Width and height of the images.")
    views: int = setting(4, minimum=0, maximum=10_000, help="Held-out views of each of the first objects.")
    heldout_objects: int = setting(32, minimum=0, maximum=1_000_000, help="Objects that have held-out views.")
    srn: bool = setting(
        False,
        help="Write the SRN layout, which `nerfgen import` reads: a folder per object with rgb/, pose/ and "
        "intrinsics.txt.",
    )
    views_per_instance: int = setting(
        1,
        minimum=1,
        maximum=10_000,
        help="Images of each object; more than one needs the SRN layout.",
    )
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random numbers.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views_per_instance > 1 and not self.srn:
            raise SettingError(
                "`views_per_instance` above 1 needs `srn`, whose folders group images by object"
            )
        held_out = min(self.heldout_objects, self.num_images) * self.views
        images = self.num_images * self.views_per_instance + held_out
        if images > _MOST_IMAGES:
            raise SettingError(
                f"`num_images`, `views_per_instance` and held-out `views` come to {images:,} images, more than "
                f"{_MOST_IMAGES:,}; choose smaller values"
            )
        require_memory(
            self.size**2 * (_BYTES_PER_RENDERING + _BYTES_PER_IMAGE * (self.views_per_instance + self.views)),
            f"{self.views_per_instance + self.views:,} images of `size` {self.size} of an object",
        )
