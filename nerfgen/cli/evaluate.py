"""``nerfgen evaluate``: the tables of a model, comparisons of models, and studies of a setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.train import PresetName

if TYPE_CHECKING:
    from nerfgen.evaluate import Settings, Sources
    from nerfgen.evaluate.sweep import Training
    from nerfgen.report import Report

EPILOG = runtime.examples(
    "Examples",
    "nerfgen evaluate photos/model.h5 --others others --html report.html",
    "nerfgen evaluate photos/model.h5 --tables train,cameras --json",
    "nerfgen evaluate --compare fast/model.h5 quality/model.h5 --html compared.html",
    "nerfgen evaluate photos --sweep images=100,300,1000 --minutes 2 --others others --html study.html",
)

_JUDGED_BY = "Judged by"
_STUDY = "Studies"
_ALL_TABLES = "train,fit,novel,depth,samples,cameras"
_TABLES_OF_STUDIES = "train,fit,novel,depth"
_OF_STUDIES = {"minutes", "steps", "preset", "values", "cameras", "masks", "no_masks"}


def evaluate(
    context: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL",
            help="Model file, or the folder that holds model.h5. With --compare several of them, or their reports; "
            "with --sweep the folder of the photographs.",
            show_default=False,
        ),
    ],
    tables: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Some of train, fit, novel, depth, samples, cameras.",
            show_default="all; train,fit,novel,depth with --sweep",
        ),
    ] = "",
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare models or reports, photograph by photograph.")
    ] = False,
    sweep: Annotated[
        str,
        typer.Option(
            metavar="NAME=VALUES",
            help="Train and evaluate a model for each value: images=100,300,1000 (photographs to train on), "
            "seed=0,1,2, or a field of the preset, such as lambda_hard=0,0.1.",
            show_default=False,
            rich_help_panel=_STUDY,
        ),
    ] = "",
    minutes: Annotated[
        float,
        typer.Option(min=0.0, help="Of training for each point; 0: the steps.", rich_help_panel=_STUDY),
    ] = 0.0,
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of training for each point; 0: the preset's, or no limit with --minutes.",
            rich_help_panel=_STUDY,
        ),
    ] = 0,
    preset: Annotated[
        PresetName, typer.Option(help="Recipe of the trainings.", rich_help_panel=_STUDY)
    ] = PresetName.fast,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other field of the preset; may be repeated.",
            rich_help_panel=_STUDY,
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="DATA/cameras.h5 by default.", show_default=False, rich_help_panel=_STUDY
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="DATA/masks.h5 by default.", show_default=False, rich_help_panel=_STUDY
        ),
    ] = None,
    no_masks: Annotated[
        bool, typer.Option("--no-masks", help="Train without masks.", rich_help_panel=_STUDY)
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Training photographs, with the files beside them; by default the model's folder.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    others: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Photographs that the model has not seen, for fit, novel and depth.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="For novel: columns source and target, two photographs of one object in --others.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    keypoints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="For depth: columns image, x0, y0, z0, x1, ...: pixels, and depth in any unit.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    landmarker: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Estimator made by `nerfgen train-landmarker`, for classes that bring none.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Weights of the networks of LPIPS, FID, KID and IS; by default the usual cache, or a download.",
            show_default=False,
            rich_help_panel=_JUDGED_BY,
        ),
    ] = None,
    images: Annotated[
        int, typer.Option("-n", "--images", min=1, help="Photographs of a table, at most.")
    ] = 200,
    samples: Annotated[int, typer.Option(min=2, help="New objects that are judged.")] = 200,
    truncation: Annotated[
        float, typer.Option(min=0.0, help="Of the new objects, in standard deviations.")
    ] = 0.7,
    fit_steps: Annotated[int, typer.Option(min=1, help="Steps in which a photograph's code is found.")] = 100,
    shown: Annotated[
        int, typer.Option(min=1, help="Rows of a grid of pictures.", rich_help_panel="Output")
    ] = 8,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write one page with tables, plots and pictures, for a browser.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = None,
    output: runtime.Output = None,
    seed: runtime.Seed = 0,
    workers: runtime.Workers = 0,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """How good a model is: reconstruction, new photographs, new views, depth, new objects, cameras.

    Every figure is a mean with a 95% interval, by bootstrap over photographs. What can't be measured for want of truth,
    of other photographs or of a network's weights is told in one line, and the rest stands. The report is an HDF5
    file: MODEL.report.h5, or study.h5 in the folder of the photographs with --sweep.
    """
    _check(runtime.given_options(context), models, compare=compare, sweep=bool(sweep))

    from nerfgen.evaluate import Settings, Sources, table_names
    from nerfgen.evaluate.sweep import Training
    from nerfgen.report.page import save_page
    from nerfgen.train import PRESETS

    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    command = _Command(
        reporter,
        Settings(images, samples, truncation, fit_steps, shown, seed),
        lambda model: Sources(model, data or model.parent, others, pairs, keypoints, landmarker, weights),
        table_names(tables or (_TABLES_OF_STUDIES if sweep else _ALL_TABLES)),
        workers,
        overwrite,
    )
    if sweep:
        changes: dict[str, object] = dict(runtime.named_values(values or []))
        if steps or minutes:
            changes["steps"] = steps
        folder = runtime.existing_folder(models[0])
        training = Training(
            cameras or folder / "cameras.h5",
            None if no_masks else masks or folder / "masks.h5",
            PRESETS[preset.value].with_values(**changes),
            minutes,
        )
        page = command.study(folder, sweep, training, output)
    elif compare:
        page = command.comparison(models)
    else:
        page = command.report(models[0], output)
    if html:
        save_page(html, page())
        reporter.say(f"wrote {html}")


class _Command:
    """What all three ways of using the command have in common; each returns what makes its page."""

    def __init__(
        self,
        reporter: runtime.Reporter,
        settings: Settings,
        sources: Callable[[Path], Sources],
        tables: list[str],
        workers: int,
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
        from nerfgen.report.page import report_page
        from nerfgen.report.text import report_text

        report, path = self._evaluated(model, output)
        self.reporter.result(report.plain() | {"output": str(path)}, f"{report_text(report)}\n-> {path}")
        return lambda: report_page([report])

    def comparison(self, models: list[Path]) -> Callable[[], str]:
        """Models side by side; those of which there is no current report are evaluated first."""
        from nerfgen.report.compare import compare
        from nerfgen.report.file import is_report, load_report
        from nerfgen.report.page import report_page
        from nerfgen.report.text import comparison_text

        reports = [
            load_report(model) if is_report(model) else self._evaluated(model, None)[0] for model in models
        ]
        compared = compare(reports)
        self.reporter.result(compared.plain(), comparison_text(compared))
        return lambda: report_page(reports)

    def study(self, data: Path, sweep: str, training: Training, output: Path | None) -> Callable[[], str]:
        """A model for every value of a setting."""
        from nerfgen.evaluate.sweep import parse_sweep, run_study
        from nerfgen.report.study_page import study_page
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
        self.reporter.result(study.plain() | {"output": str(output)}, f"{study_text(study)}\n-> {output}")
        return lambda: study_page(study)

    def _evaluated(self, model: Path, output: Path | None) -> tuple[Report, Path]:
        """A model's report, and where it is."""
        from nerfgen.evaluate import evaluate_model
        from nerfgen.field import model_file

        file = model_file(model)
        output = output or file.with_suffix(".report.h5")
        report, kept = evaluate_model(self.sources(file), output, **self.options)
        if kept:
            self.reporter.kept(output)
        return report, output


def _check(given: dict[str, str], models: list[Path], *, compare: bool, sweep: bool) -> None:
    """Refuse options and arguments that would have no effect.

    Raises:
        InputError: there is one.
    """
    from nerfgen.errors import InputError

    if compare and sweep:
        raise InputError("--compare and --sweep exclude each other")
    if compare and len(models) < 2:
        raise InputError("--compare: give two models or more, or their reports")
    if not compare and len(models) > 1:
        raise InputError(f"{models[1]}: several models are for --compare only")
    for name, written in given.items():
        if name in _OF_STUDIES and not sweep:
            raise InputError(f"{written} is for --sweep only")
        if name == "output" and compare:
            raise InputError("-o has no effect on --compare: every model's report is beside it")
        if name == "data" and sweep:
            raise InputError("--data has no effect on --sweep, which is given the folder itself")
