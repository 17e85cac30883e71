"""Settings of synthetic images."""

from __future__ import annotations

from dataclasses import dataclass

from nerfgen.settings import SettingError, Settings, setting


@dataclass(frozen=True)
class SynthSettings(Settings, title="Objects and images"):
    """What is rendered of a procedural class."""

    num_images: int = setting(
        100, minimum=1, option=("-n", "--num-images"), help="Objects, with one image each by default."
    )
    size: int = setting(128, minimum=16, unit="pixels", help="Width and height of the images.")
    views: int = setting(4, minimum=0, help="Held-out views of each of the first objects.")
    heldout_objects: int = setting(32, minimum=0, help="Objects that have held-out views.")
    srn: bool = setting(
        False,
        help="Write the SRN layout, which `nerfgen import` reads: a folder per object with rgb/, pose/ and "
        "intrinsics.txt.",
    )
    views_per_instance: int = setting(
        1, minimum=1, help="Images of each object; more than one needs the SRN layout."
    )
    seed: int = setting(0, minimum=0, help="Seed of all random numbers.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views_per_instance > 1 and not self.srn:
            raise SettingError(
                "`views_per_instance` above 1 needs `srn`, whose folders group images by object"
            )
