"""Which objects ``render`` and ``export`` show: table rows, objects of files, and new images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerfgen.cli import options
from nerfgen.inversion import FitSettings
from nerfgen.model import MAX_COORDINATE, SampleSettings, parse_coordinates
from nerfgen.settings import MAX_COUNT, MAX_SEED, SettingError, Settings, setting, settings_of
from nerfgen.storage import InputRecord, Record

if TYPE_CHECKING:
    from nerfgen.cli.progress import Reporter
    from nerfgen.model import Model, Objects


@dataclass(frozen=True)
class Selection(Settings, title="Objects"):
    """Objects of a model; of one source at a time."""

    rows: str | None = setting(None, metavar="ROWS", help="Rows of the table, such as 3, 0,5-9, or all.")
    codes: tuple[str, ...] = setting(
        (),
        metavar="FILE[:NUMBERS]",
        help="Objects of a file that this model made, such as fitted.h5 or samples.h5:0,2-4; may be repeated.",
    )
    image: tuple[str, ...] = setting(
        (), metavar="IMAGE", help="A new image, or a folder of images, or the URL of one; may be repeated."
    )
    new: int | None = setting(
        None,
        minimum=0,
        maximum=MAX_SEED,
        metavar="SEED",
        help="A new object: the first that `nerfgen sample --seed SEED` draws.",
    )
    truncation: float | None = setting(
        None,
        minimum=0,
        maximum=100.0,
        default_text="0.7",
        help="Truncation of `new`, as of `nerfgen sample`.",
    )
    axes: tuple[tuple[int, float], ...] = setting(
        (),
        minimum=-MAX_COORDINATE,
        maximum=MAX_COUNT,
        parse=parse_coordinates,
        metavar="AXIS=VALUE,...",
        help="Move the objects along principal axes to these coordinates, in standard deviations, such as 1=0.5,3=-2; "
        "without other objects, the mean of the table.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [
            name for name in ("image", "codes", "rows", "new") if getattr(self, name) not in (None, (), "")
        ]
        if len(given) > 1:
            raise SettingError(f"`{given[0]}` and `{given[1]}` exclude each other; give one of them")
        if self.truncation is not None and self.new is None:
            raise SettingError("`truncation` has an effect on `new` only; give it a seed")

    @property
    def is_empty(self) -> bool:
        """Whether no objects are selected."""
        return not (self.image or self.codes or self.rows or self.axes) and self.new is None

    @property
    def parameters(self) -> Record:
        """What a file records of new and moved objects; nothing where there are none."""
        found: Record = {}
        if self.new is not None:
            found |= {"new": self.new, "truncation": self._truncation}
        if self.axes:
            found["axes"] = [list(each) for each in self.axes]
        return found

    @property
    def _truncation(self) -> float:
        return SampleSettings().truncation if self.truncation is None else self.truncation

    def check_fitting(self) -> None:
        """Refuse options of fitting where there is no new image.

        Raises:
            InputError: one was given.
        """
        if not self.image:
            options.refuse("is for new images only; give some with --image", *settings_of(FitSettings))
        elif "tune" not in options.given():
            options.refuse("is for --tune only", "tune_steps")

    def table_rows(self, model: Model, default: str = "") -> list[int]:
        """The rows of the table that are selected, or ``default`` ones where nothing is.

        Raises:
            InputError: other words, or rows out of range.
        """
        from nerfgen.model import parse_numbers

        chosen = self.rows or (default if self.is_empty else "")
        return parse_numbers(chosen, len(model.images), f"`rows` {chosen}", "rows") if chosen else []

    def load(
        self,
        model: Model,
        model_record: InputRecord,
        rows: list[int],
        fitting: FitSettings,
        reporter: Reporter,
        **cluster: Any,
    ) -> Objects:
        """The objects; new images are fitted first.

        Args:
            cluster: how the images are divided, see :func:`nerfgen.inversion.fit_images`.
        """
        from nerfgen import model as models

        if self.image:
            found = self._fitted(model, fitting, reporter, cluster)
        elif self.codes:
            found = models.find_objects(model, model_record["sha256"], self.codes)
        elif self.new is not None:
            sampling = models.SampleSettings(1, self._truncation, seed=self.new)
            found = models.new_objects(model, sampling)
        elif rows:
            found = models.table_objects(model, rows)
        else:
            found = models.mean_object(model.principal)
        return models.move_to(found, model.principal, self.axes) if self.axes else found

    def _fitted(
        self, model: Model, fitting: FitSettings, reporter: Reporter, cluster: dict[str, Any]
    ) -> Objects:
        from nerfgen import inversion

        with reporter.progress("fitting", "blocks" if cluster.get("scheduler") else "steps") as progress:
            return inversion.fit_images(
                model, self.image, fitting=fitting, **cluster, progress=progress, warn=reporter.say
            )
