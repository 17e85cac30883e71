"""Which objects ``render`` and ``export`` show: table rows, objects of files, and new images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nerfgen.cli import options
from nerfgen.inversion import FitSettings
from nerfgen.settings import SettingError, Settings, setting, settings_of
from nerfgen.storage import InputRecord

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
    image: tuple[Path, ...] = setting(
        (), metavar="IMAGE", help="A new image, or a folder of images; may be repeated."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("image", "codes", "rows") if getattr(self, name)]
        if len(given) > 1:
            raise SettingError(f"`{given[0]}` and `{given[1]}` exclude each other; give one of them")

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

        chosen = self.rows or ("" if self.image or self.codes else default)
        return parse_numbers(chosen, len(model.images), f"`rows` {chosen}", "rows") if chosen else []

    def load(
        self,
        model: Model,
        model_record: InputRecord,
        rows: list[int],
        fitting: FitSettings,
        reporter: Reporter,
    ) -> Objects:
        """The objects; new images are fitted first."""
        from nerfgen import inversion
        from nerfgen import model as models

        if self.image:
            with reporter.progress("fitting", "steps") as progress:
                return inversion.fit_images(
                    model, self.image, fitting=fitting, progress=progress, warn=reporter.say
                )
        if self.codes:
            return models.find_objects(model, model_record["sha256"], self.codes)
        return models.table_objects(model, rows)
