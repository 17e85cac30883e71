"""``nerfgen train``: the generative model of a folder."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.summary import other_statuses

EPILOG = runtime.examples(
    "Examples",
    "nerfgen train photos",
    "nerfgen train photos --minutes 20 --size 64 --set latent_size=128 --set plane_size=48",
    "nerfgen train photos --preset paper --steps 100000 --resume",
    "nerfgen train mine --init photos/model.h5",
    "nerfgen train cars --cameras cars/truth.h5 --masks cars/truth.h5",
)

_RUN = "Run"
_RECIPE = "Recipe"
_MACHINE = "Machine"


class PresetName(enum.StrEnum):
    """Training recipes."""

    fast = "fast"
    quality = "quality"
    paper = "paper"
    paper_hq = "paper-hq"


class Precision(enum.StrEnum):
    """Factors of matrix products."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Placement(enum.StrEnum):
    """Where pixels are kept."""

    auto = "auto"
    device = "device"
    host = "host"
    disk = "disk"


def train(
    data: runtime.DataFolder,
    object_class: Annotated[
        str,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class, or the file that describes it; by default that of the cameras.",
            show_default=False,
        ),
    ] = "",
    cameras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="DATA/cameras.h5 by default.", show_default=False)
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="DATA/masks.h5 by default.", show_default=False)
    ] = None,
    no_masks: Annotated[bool, typer.Option("--no-masks", help="Train without masks.")] = False,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="[bold]fast[/bold]: right geometry in minutes on a CPU. "
            "[bold]quality[/bold]: the best result of an hour or two. "
            "[bold]paper[/bold], [bold]paper-hq[/bold]: the published architecture, losses and schedule, "
            "256 and 1,024 wide.",
            show_default="fast",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Go on from this model: its rows stay as they are, and DATA's photographs become new ones. The "
            "recipe is the model's, with 1,000 steps and a fifth of the networks' rate.",
            show_default=False,
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    rehearse: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures that --init renders of its own objects, so that they are not forgotten.",
            rich_help_panel=_RECIPE,
        ),
    ] = 256,
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
    samples: Annotated[
        int, typer.Option(min=0, help="Samples a ray; 0: the preset's.", rich_help_panel=_RECIPE)
    ] = 0,
    images_per_batch: Annotated[
        int, typer.Option(min=0, help="Images of a step; 0: the preset's.", rich_help_panel=_RECIPE)
    ] = 0,
    rays_per_image: Annotated[
        int,
        typer.Option(min=0, help="Rays of each of them; 0: the preset's.", rich_help_panel=_RECIPE),
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
        typer.Option(
            "--resume", help="Go on from the newest checkpoint, if there is one.", rich_help_panel=_RUN
        ),
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.0, help="Time between checkpoints and previews.", rich_help_panel=_RUN)
    ] = 5.0,
    keep: Annotated[
        int,
        typer.Option(
            min=0,
            help="Checkpoints to leave, the newest; 0 keeps one until the run is finished.",
            rich_help_panel=_RUN,
        ),
    ] = 0,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview/--no-preview", help="Draw MODEL.preview.png at every checkpoint.", rich_help_panel=_RUN
        ),
    ] = True,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also log to TensorBoard.", show_default=False, rich_help_panel=_RUN
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print sizes, memory and time per step; train and write nothing.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    devices: Annotated[
        int, typer.Option(min=0, help="Devices to use; 0: all that JAX sees.", rich_help_panel=_MACHINE)
    ] = 0,
    precision: Annotated[
        Precision,
        typer.Option(
            help="Factors of matrix products; [bold]auto[/bold]: float32 on a CPU, bfloat16 elsewhere.",
            rich_help_panel=_MACHINE,
        ),
    ] = Precision.auto,
    micro_batch: Annotated[
        int,
        typer.Option(
            min=0,
            help="Images per device in one pass, whose gradients add up; fewer need less memory. 0: chosen.",
            rich_help_panel=_MACHINE,
        ),
    ] = 0,
    rematerialise: Annotated[
        bool,
        typer.Option(
            "--remat", help="Compute activations twice to keep fewer in memory.", rich_help_panel=_MACHINE
        ),
    ] = False,
    placement: Annotated[
        Placement,
        typer.Option(
            "--data",
            help="Where pixels are kept; [bold]auto[/bold]: the first of these with room.",
            rich_help_panel=_MACHINE,
        ),
    ] = Placement.auto,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Framed pixels; DATA/pixels.h5 by default.",
            show_default=False,
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    output: runtime.Output = None,
    overwrite: runtime.Overwrite = False,
    strict: runtime.Strict = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Train the auto-decoder on a folder of photographs; writes DATA/model.h5.

    Needs the cameras of `nerfgen fit-cameras` and the masks of `nerfgen segment`. Fitted cameras are refined on the
    way and written to MODEL.cameras.h5; cameras from elsewhere, such as those of truth.h5, are taken as they are.
    The framed photographs are kept in DATA/pixels.h5, progress in MODEL.log.jsonl. Ctrl-C writes a checkpoint first.
    """
    from nerfgen import artifact
    from nerfgen.errors import InputError
    from nerfgen.field import load_model
    from nerfgen.generate import rehearsed
    from nerfgen.objectclass import object_class as named_class
    from nerfgen.train import PRESETS, Execution, TrainingFiles, estimate, for_cameras, going_on
    from nerfgen.train import train as train_model

    runtime.existing_folder(data)
    output = output or data / "model.h5"
    cameras = cameras or data / "cameras.h5"
    named = {
        "size": size,
        "latent_size": latent_size,
        "width": width,
        "samples": samples,
        "images_per_batch": images_per_batch,
        "rays_per_image": rays_per_image,
        "steps": steps,
    }
    changes: dict[str, object] = dict(runtime.named_values(values or []))
    changes |= {name: value for name, value in named.items() if value}
    if minutes and not steps:
        changes["steps"] = 0
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        described = named_class(object_class) if object_class else artifact.class_of(file)
    files = TrainingFiles(data, cameras, None if no_masks else masks or data / "masks.h5", output)
    if init and preset:
        raise InputError(
            "--preset and --init exclude each other: training goes on with the model's own recipe"
        )
    recipe = PRESETS[(preset or PresetName.fast).value]
    if init:
        former = load_model(init)
        if former.object_class != described:
            raise InputError(
                f"{init} is a model of class {former.object_class.name}, but {cameras} is of {described.name}"
            )
        recipe = going_on(former)
    recipe = for_cameras(recipe, cameras).with_values(**changes)
    execution = Execution(devices, precision.value, micro_batch, rematerialise, placement.value, cache)
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    if dry_run:
        needs = estimate(files, recipe, object_class=described, execution=execution)
        reporter.result(needs, "\n".join(f"{name.replace('_', ' ')}: {needs[name]}" for name in needs))
        return
    watcher = _Watcher(output, data, reporter, preview=preview)
    with (
        _remedy(output, reporter),
        reporter.progress("framing") as load_progress,
        reporter.progress("training", "steps") as progress,
    ):
        start = rehearsed(init, recipe.size, pictures=rehearse, seed=seed) if init else None
        summary = train_model(
            files,
            recipe,
            object_class=described,
            seed=seed,
            minutes=minutes,
            start=start,
            execution=execution,
            resume=resume,
            overwrite=overwrite,
            checkpoint_minutes=checkpoint_minutes,
            keep=keep,
            tensorboard=tensorboard,
            load_progress=load_progress,
            progress=progress,
            on_checkpoint=watcher.look,
        )
    if summary["kept"]:
        reporter.kept(output)
        reporter.result(summary, f"-> {output}")
        return
    unusable = sum(summary["skipped"].values())
    reporter.result(
        summary | {"flatness": watcher.flatness},
        f"{summary['images']} images, {summary['steps']} steps in {summary['seconds']:.0f} s, "
        f"PSNR {summary['psnr_db']:.1f} dB -> {output}" + other_statuses(summary["skipped"]),
    )
    if preview:
        reporter.say(f"wrote {watcher.picture}")
    runtime.check_strict(strict, unusable, unusable + summary["images"])


@contextmanager
def _remedy(output: Path, reporter: runtime.Reporter) -> Iterator[None]:
    """Say how to go on when the run is interrupted after its first checkpoint."""
    from nerfgen.train.checkpoint import Checkpoints

    try:
        yield
    except (KeyboardInterrupt, runtime.Terminated):
        newest = Checkpoints(output, 0).newest()
        if newest:
            reporter.say(f"{newest} holds the run so far; the same command with --resume goes on from it")
        raise


class _Watcher:
    """Looks at the model at every checkpoint: draws a preview, and warns once of a flat one."""

    def __init__(self, output: Path, data: Path, reporter: runtime.Reporter, *, preview: bool) -> None:
        self.picture = output.with_suffix(".preview.png")
        self.flatness = 1.0
        self._data, self._reporter, self._preview, self._warned = data, reporter, preview, False

    def look(self, model: Any) -> None:
        from nerfgen.generate import FLAT, flatness
        from nerfgen.generate.sheet import preview_picture
        from nerfgen.picture import save_picture

        if self._preview:
            save_picture(self.picture, preview_picture(model, self._data))
        self.flatness = flatness(model)
        if self.flatness < FLAT and not self._warned:
            self._warned = True
            self._reporter.say(
                f"warning: objects look flat (depth {self.flatness:.2f} of their width): photographs from more sides, "
                "masks, --set lambda_mask=1, fewer steps or a smaller --latent-size cure billboards"
            )
