"""``nerfgen evaluate``: the tables of a model, comparisons of models, and studies of a setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, Reporter
from nerfgen.cli.train import TrainingInputs
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings
from nerfgen.model import PRESETS, Recipe
from nerfgen.settings import MAX_MINUTES, Settings, setting, settings_of

if TYPE_CHECKING:
    from nerfgen.evaluate.sweep import SweepTraining
    from nerfgen.report import Report

EPILOG = runtime.examples(
    "Examples",
    "nerfgen evaluate photos/model.h5 --held-out others --html report.html",
    "nerfgen evaluate photos/model.h5 --tables train,cameras --json",
    "nerfgen evaluate --compare fast/model.h5 quality/model.h5 --html compared.html",
    "nerfgen evaluate photos --sweep images=100,300,1000 --minutes 2 --held-out others --html study.html",
)

_STUDY = "Studies"
_ALL_TABLES = "train,fit,novel,pairs,depth,samples,cameras"
_STUDY_TABLES = "train,fit,novel,depth"
_REFERENCES = tuple(name for name in settings_of(EvaluationInputs) if name not in ("model", "data"))


@dataclass(frozen=True)
class Sweeping(Settings, title=_STUDY):
    """The trainings of a study."""

    sweep: str | None = setting(
        None,
        metavar="NAME=VALUES",
        help="Train and evaluate a model for each value: images=100,300,1000 (number of training images), seed=0,1,2, "
        "or a field of the recipe, such as lambda_hard=0,0.1.",
    )
    minutes: float | None = setting(
        None,
        above=0,
        maximum=MAX_MINUTES,
        zero_is_default=True,
        help="Time limit of each training; by default the number of steps decides.",
    )
    preset: str = setting("fast", choices=tuple(PRESETS), help="Recipe of the trainings.")


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL",
            help="Model file, or the folder that holds model.h5. With --compare several models, or their reports; "
            "with --sweep the folder of training images.",
            show_default=False,
        ),
    ],
    *,
    tables: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Some of train, fit, novel, pairs, depth, samples, cameras.",
            show_default="all; train,fit,novel,depth with --sweep",
        ),
    ] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare models or reports, image by image.")
    ] = False,
    settings: EvaluationSettings,
    sweeping: Sweeping,
    changes: Annotated[dict[str, Any], options.Changes(Recipe, ("steps",), _STUDY)],
    training_inputs: Annotated[TrainingInputs, options.Title(_STUDY)],
    data: Annotated[
        str | None,
        runtime.file_option(
            "Training images, with the files beside them; the model's folder by default.",
            "FOLDER",
            EvaluationInputs.title,
        ),
    ] = None,
    references: Annotated[
        dict[str, Any], options.Fields(EvaluationInputs, _REFERENCES, EvaluationInputs.title)
    ],
    workers: runtime.Workers = None,
    output: runtime.OutputFile,
    html: Annotated[
        Path | None,
        runtime.file_option(
            "Also write one page with tables, plots and images, for a browser.", "FILE.html", "Output"
        ),
    ] = None,
    messages: Messages,
) -> None:
    """Measure a model: reconstruction, new images, novel views, pairs of images, depth, new objects, cameras.

    Each figure is a mean with a 95% bootstrap interval over images. Metrics that cannot be computed are listed as
    missing; the others are unaffected. The report is an HDF5 file: MODEL.report.h5, or study.h5 in the folder of the
    training images with --sweep.
    """
    _check(models, compare=compare, sweep=bool(sweeping.sweep))

    from nerfgen.evaluate import table_names
    from nerfgen.evaluate.sweep import SweepTraining
    from nerfgen.image import image_folder
    from nerfgen.report.pages import save_page

    reporter = messages.reporter()
    images = image_folder(data) if data else None
    command = _Command(
        reporter,
        settings,
        lambda model: EvaluationInputs(model, images or model.parent, **references),
        table_names(tables or (_STUDY_TABLES if sweeping.sweep else _ALL_TABLES)),
        workers,
        output.overwrite,
    )
    if sweeping.sweep:
        folder = runtime.existing_folder(models[0])
        cameras, masks = training_inputs.files(folder)
        recipe = PRESETS[sweeping.preset]
        if sweeping.minutes:
            recipe = replace(recipe, steps=None)
        recipe = recipe.with_values(**changes)
        training = SweepTraining(cameras, masks, recipe, sweeping.minutes or 0.0)
        page = command.study(folder, sweeping.sweep, training, output.output)
    elif compare:
        page = command.comparison(models)
    else:
        page = command.report(models[0], output.output)
    if html:
        save_page(html, page())
        reporter.say(f"wrote {html}")


class _Command:
    """The three ways to use the command; each prints its result and returns a function that makes its page."""

    def __init__(
        self,
        reporter: Reporter,
        settings: EvaluationSettings,
        sources: Callable[[Path], EvaluationInputs],
        tables: list[str],
        workers: int | None,
        overwrite: bool,
    ) -> None:
        self.reporter, self.sources = reporter, sources
        self.options: dict[str, Any] = {
            "settings": settings,
            "tables": tables,
            "workers": workers,
            "overwrite": overwrite,
            "show": reporter.progress,
        }

    def report(self, model: Path, output: Path | None) -> Callable[[], str]:
        """The tables of one model."""
        from nerfgen.report.pages import report_page
        from nerfgen.report.text import report_text

        report, path = self._evaluated(model, output)
        self.reporter.result(
            report.as_dict() | {"output": str(path)}, f"{options.as_options(report_text(report))}\n-> {path}"
        )
        return lambda: report_page([report])

    def comparison(self, models: list[Path]) -> Callable[[], str]:
        """Models side by side; those of which there is no current report are evaluated first."""
        from nerfgen.report import load_report
        from nerfgen.report.comparison import compare
        from nerfgen.report.pages import report_page
        from nerfgen.report.report_file import is_report
        from nerfgen.report.text import comparison_text

        reports = [
            load_report(model) if is_report(model) else self._evaluated(model, None)[0] for model in models
        ]
        compared = compare(reports)
        self.reporter.result(compared.as_dict(), comparison_text(compared))
        return lambda: report_page(reports)

    def study(
        self, data: Path, sweep: str, training: SweepTraining, output: Path | None
    ) -> Callable[[], str]:
        """A model for every value of a setting."""
        from nerfgen.evaluate.sweep import parse_sweep, run_study
        from nerfgen.report.pages import study_page
        from nerfgen.report.text import study_text

        output = output or data / "study.h5"
        study, kept = run_study(
            parse_sweep(sweep, training.recipe),
            training,
            self.sources(data / "model.h5"),
            output,
            **self.options,
        )
        if kept:
            self.reporter.kept(output)
        self.reporter.result(study.as_dict() | {"output": str(output)}, f"{study_text(study)}\n-> {output}")
        return lambda: study_page(study)

    def _evaluated(self, model: Path, output: Path | None) -> tuple[Report, Path]:
        """A model's report, and where it is."""
        from nerfgen.evaluate import evaluate_model
        from nerfgen.model import model_file

        file = model_file(model)
        output = output or file.with_suffix(".report.h5")
        report, kept = evaluate_model(self.sources(file), output, **self.options)
        if kept:
            self.reporter.kept(output)
        return report, output


def _check(models: list[Path], *, compare: bool, sweep: bool) -> None:
    """Refuse options and arguments that would have no effect.

    Raises:
        InputError: there is one.
    """
    from nerfgen.errors import InputError

    options.exclude("compare", "sweep")
    if compare and len(models) < 2:
        raise InputError("`compare` needs two or more models, or their reports")
    if not compare and len(models) > 1:
        raise InputError(f"{models[1]}: several models are for --compare only")
    if not sweep:
        options.refuse(
            "is for --sweep only", "minutes", "preset", "steps", "values", *settings_of(TrainingInputs)
        )
    else:
        options.refuse("has no effect on --sweep, which takes the folder itself", "data")
    if compare:
        options.refuse("has no effect on --compare: the report of each model is beside it", "output")
