"""Settings of latent codes: draws of new objects, and walks between objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nerfgen.settings import MAX_COUNT, MAX_SEED, SettingError, Settings, parse_count, setting

Prior = Literal["gaussian", "mixture", "codes"]

# Of a coordinate along a principal axis, standard deviations.
MAX_COORDINATE = 1000.0
_MOST_DIGITS = 18


@dataclass(frozen=True)
class SampleSettings(Settings, title="New objects"):
    """How new objects are drawn."""

    count: int = setting(
        8,
        option=("-n", "--num-samples"),
        minimum=1,
        maximum=MAX_COUNT,
        help="Number of new objects.",
    )
    truncation: float = setting(
        0.7,
        minimum=0,
        maximum=100.0,
        help="Truncate the Gaussian at this many standard deviations: lower is cleaner, higher is more varied, 0 is "
        "the mean.",
    )
    components: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_COUNT,
        zero_is_default=True,
        help="Principal axes that vary; all by default.",
    )
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random numbers.")
    prior: Prior | None = setting(
        None,
        default_text="gaussian; codes for models with vector-quantised latent codes",
        help="Distribution that new objects are drawn from: the table as one [bold]gaussian[/bold], a Gaussian "
        "[bold]mixture[/bold] that is fitted to the table in seconds, or, for vector-quantised latent codes, "
        "[bold]codes[/bold]: which entries of the codebooks go together.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior == "codes" and self.components:
            raise SettingError(
                "`components` has no effect on entries of codebooks; leave it out, or `prior` codes"
            )

    @property
    def parameters(self) -> dict[str, object]:
        """What a file records of them."""
        values: dict[str, object] = {
            "num_samples": self.count,
            "truncation": self.truncation,
            "components": self.components,
            "seed": self.seed,
        }
        return values | {"prior": self.prior} if self.prior else values


def parse_range(name: str, text: str) -> tuple[float, float]:
    """Two numbers with a colon between.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low = high = math.nan
    if not math.isfinite(low + high):
        raise SettingError(f"`{name}` {text}: give two numbers such as -3:3")
    return low, high


def parse_coordinates(name: str, text: str) -> tuple[tuple[int, float], ...]:
    """Coordinates along principal axes, from words such as ``1=0.5,3=-2``; each axis once.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    found: dict[int, float] = {}
    for word in text.split(","):
        axis, _, value = word.partition("=")
        try:
            number, coordinate = parse_count(axis.strip()), float(value)
        except ValueError:
            number, coordinate = 0, math.nan
        if not 1 <= number <= MAX_COUNT or number in found or not abs(coordinate) <= MAX_COORDINATE:
            raise SettingError(
                f"`{name}` {text}: give each principal axis, counted from 1, once with a coordinate, such as 1=0.5,3=-2"
            )
        found[number] = coordinate
    return tuple(found.items())


@dataclass(frozen=True)
class WalkSettings(Settings, title="Walks, in place of new objects"):
    """How a walk through the space of latent codes is made."""

    between: bool = setting(
        False,
        help="Walk from the first CODE through all others to the last; without a CODE, through new objects.",
    )
    direction: str | None = setting(
        None,
        metavar="PC|NAME",
        help="Walk along a principal axis, counted from 1, or along a direction that `nerfgen directions` has learned, "
        "from the mean or from one CODE.",
    )
    span: tuple[float, float] = setting(
        (-3.0, 3.0),
        minimum=-MAX_COORDINATE,
        maximum=MAX_COORDINATE,
        option="--range",
        parse=parse_range,
        metavar="FROM:TO",
        default_text="-3:3",
        help="Range of the coordinate along `direction`, in standard deviations.",
    )
    frames: int = setting(48, minimum=2, maximum=1_000_000, help="Frames of a walk, both ends included.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.between and self.direction is not None:
            raise SettingError("`direction` and `between` exclude each other; give one of them")

    @property
    def axis(self) -> int | None:
        """The principal axis that ``direction`` is; None for one with a name.

        Raises:
            SettingError: it is a number that no axis has.
        """
        word = self.direction or ""
        if not word.lstrip("+-").isdigit():
            return None
        if not 1 <= int(word[:_MOST_DIGITS]) <= MAX_COUNT:
            raise SettingError(f"`direction` {word}: principal axes are counted from 1")
        return int(word)
