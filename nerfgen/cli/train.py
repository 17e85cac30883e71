"""``nerfgen train``: the generative model of a folder."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen train photos",
    "nerfgen train photos --minutes 20 --size 64 --set latent_size=128 --set plane_size=48",
    "nerfgen train photos --preset paper --steps 100000 --resume",
    "nerfgen train cars --class car --cameras cars/truth.h5 --masks cars/truth.h5",
)

_RUN = "Run"
_RECIPE = "Recipe"


class PresetName(enum.StrEnum):
    """Training recipes."""

    fast = "fast"
    paper = "paper"


def train(
    data: runtime.DataFolder,
    object_class: Annotated[
        str, typer.Option("--class", help="Object class; by default that of the cameras.", show_default=False)
    ] = "",
    cameras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="DATA/cameras.h5 by default.", show_default=False)
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="DATA/masks.h5 by default.", show_default=False)
    ] = None,
    no_masks: Annotated[bool, typer.Option("--no-masks", help="Train without masks.")] = False,
    preset: Annotated[
        PresetName,
        typer.Option(
            help="[bold]fast[/bold]: right geometry in minutes on a CPU. "
            "[bold]paper[/bold]: the published architecture, losses and schedule.",
            rich_help_panel=_RECIPE,
        ),
    ] = PresetName.fast,
    size: Annotated[
        int,
        typer.Option(
            min=0, help="Pixels of a framed photograph's edge; 0: the preset's.", rich_help_panel=_RECIPE
        ),
    ] = 0,
    latent_size: Annotated[
        int, typer.Option(min=0, help="Length of a code; 0: the preset's.", rich_help_panel=_RECIPE)
    ] = 0,
    width: Annotated[
        int,
        typer.Option(
            min=0, help="Width of the foreground network; 0: the preset's.", rich_help_panel=_RECIPE
        ),
    ] = 0,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other field of the preset; may be repeated.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    seed: runtime.Seed = 0,
    steps: Annotated[
        int,
        typer.Option(min=0, help="Steps; 0: the preset's, or no limit with --minutes.", rich_help_panel=_RUN),
    ] = 0,
    minutes: Annotated[
        float,
        typer.Option(min=0.0, help="Stop after so many minutes; rates decay to fit.", rich_help_panel=_RUN),
    ] = 0.0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint, if there is one.", rich_help_panel=_RUN),
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.01, help="Time between checkpoints and previews.", rich_help_panel=_RUN)
    ] = 5.0,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview/--no-preview", help="Draw MODEL.preview.png at every checkpoint.", rich_help_panel=_RUN
        ),
    ] = True,
    output: runtime.Output = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Train the auto-decoder on a folder of photographs; writes DATA/model.h5.

    Needs the cameras of `nerfgen fit-cameras` and the masks of `nerfgen segment`. Fitted cameras are refined on the
    way; cameras from elsewhere, such as those of truth.h5, are taken as they are.
    """
    from nerfgen import artifact
    from nerfgen.errors import InputError
    from nerfgen.generate.sheet import preview_picture
    from nerfgen.picture import save_picture
    from nerfgen.train import PRESETS, TrainingFiles, for_cameras
    from nerfgen.train import train as train_model

    runtime.existing_folder(data)
    output = output or data / "model.h5"
    cameras = cameras or data / "cameras.h5"
    pairs = [value.partition("=") for value in values or []]
    for name, equals, _ in pairs:
        if not equals:
            raise InputError(f"--set {name}: give NAME=VALUE, such as --set samples=32")
    changes: dict[str, object] = {name: value for name, _, value in pairs}
    changes |= {
        k: v
        for k, v in {"size": size, "latent_size": latent_size, "width": width, "steps": steps}.items()
        if v
    }
    if minutes and not steps:
        changes["steps"] = 0
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        object_class = object_class or str(file.attrs["class"])
    files = TrainingFiles(data, cameras, None if no_masks else masks or data / "masks.h5", output)
    picture = output.with_suffix(".preview.png")
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    with (
        reporter.progress("framing") as load_progress,
        reporter.progress("training", "steps") as progress,
    ):
        summary = train_model(
            files,
            for_cameras(PRESETS[preset.value], cameras).with_values(**changes),
            class_name=object_class,
            seed=seed,
            minutes=minutes,
            resume=resume,
            overwrite=overwrite,
            checkpoint_minutes=checkpoint_minutes,
            load_progress=load_progress,
            progress=progress,
            on_checkpoint=(lambda model: save_picture(picture, preview_picture(model, data)))
            if preview
            else None,
        )
    if summary["kept"]:
        reporter.kept(output)
        reporter.result(summary, f"-> {output}")
        return
    unusable = sum(summary["skipped"].values())
    reporter.result(
        summary,
        f"{summary['images']} images, {summary['steps']} steps in {summary['seconds']:.0f} s, "
        f"PSNR {summary['psnr_db']:.1f} dB -> {output}" + other_statuses(summary["skipped"]),
    )
    if preview:
        reporter.say(f"wrote {picture}")
    runtime.check_strict(strict, unusable, unusable + summary["images"])
