"""``nerfgen bench``: measurements of the program on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure speed, memory and convergence on this machine.\n\n"
    "What is compared is measured in turns in one run, and the median turn counts. Each prints one JSON object.",
    epilog=runtime.examples(
        "Examples",
        "nerfgen bench training",
        "nerfgen bench convergence --kind cars",
        "nerfgen bench memory --sizes 64,256",
    ),
)


class KindName(StrEnum):
    """The procedural classes."""

    heads = "heads"
    cars = "cars"


Rounds = Annotated[int, typer.Option(min=1, help="Turns of everything that is compared, at most.")]
Seconds = Annotated[float, typer.Option(min=0.0, help="Begin no further round after so many seconds.")]


def _reporter(quiet: bool) -> runtime.Reporter:
    return runtime.Reporter(quiet=quiet, as_json=True)


def _print(reporter: runtime.Reporter, measured: dict[str, Any]) -> None:
    reporter.result({name: _rounded(value) for name, value in measured.items()}, "")


def _rounded(value: Any) -> Any:
    """Floats to five digits, which is more than any of them is good for."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _list(option: str, text: str, least: float) -> list[float]:
    """Numbers of at least ``least`` with commas between.

    Raises:
        InputError: they are none.
    """
    from nerfgen.errors import InputError

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise InputError(f"{option} {text}: give numbers of at least {least:g} with commas between")
    return numbers


def training(
    images: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 8,
    rays_per_image: Annotated[int, typer.Option(min=1, help="Rays of each of them.")] = 32,
    width: Annotated[int, typer.Option(min=1, help="Width of the foreground network.")] = 256,
    rounds: Rounds = 5,
    seconds: Seconds = 45.0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """The published network's training step: ours, PyTorch's, and what the machine could do.

    PyTorch takes the same step on the same rays, written the usual way: in float32, compiled, and in bfloat16, with
    fewer rays where that is slow. Without PyTorch (pip install torch==2.13.0) its figures are null. The operations of
    the step's matrix products are set against those of one large product.
    """
    from nerfgen.bench.training import measure_training

    reporter = _reporter(quiet)
    _print(
        reporter,
        measure_training(
            images=images,
            rays_per_image=rays_per_image,
            width=width,
            rounds=rounds,
            seconds=seconds,
            say=reporter.say,
        ),
    )


def data(
    images: Annotated[int, typer.Option(min=1, help="Photographs to make.")] = 1000,
    size: Annotated[int, typer.Option(min=16, help="Their edge, pixels.")] = 64,
    rounds: Rounds = 20,
    seconds: Seconds = 30.0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """The fast step with its pixels kept on the device, in host memory and on disk.

    Also the share of the time that the step waits for data, and how many batches a second each place gives where no
    step takes them.
    """
    from nerfgen.bench.data import measure_data

    reporter = _reporter(quiet)
    _print(reporter, measure_data(images=images, size=size, rounds=rounds, seconds=seconds, say=reporter.say))


def latents(
    rows: Annotated[
        str, typer.Option(metavar="K,K,...", help="Rows of the table of codes.")
    ] = "1000,100000,1000000",
    rounds: Rounds = 20,
    seconds: Seconds = 60.0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """The fast step with ever more images, that is rows of the table of codes, and the same batch.

    A million rows of 64 numbers take 0.8 GB with their moments.
    """
    from nerfgen.bench.latents import measure_latents

    counts = [int(count) for count in _list("--rows", rows, 1)]
    reporter = _reporter(quiet)
    _print(reporter, measure_latents(rows=counts, rounds=rounds, seconds=seconds, say=reporter.say))


def memory(
    sizes: Annotated[
        str, typer.Option(metavar="S,S,...", help="Edges of the framed photographs, pixels.")
    ] = "64,128,256,512",
    images: Annotated[int, typer.Option(min=1, help="Photographs to make.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each run.")] = 50,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """Peak memory of training from disk with ever larger photographs and the same batch.

    Each point is a whole `nerfgen train --data disk` in a process of its own, framing included.
    """
    from nerfgen.bench.memory import measure_memory

    edges = [int(edge) for edge in _list("--sizes", sizes, 16)]
    reporter = _reporter(quiet)
    _print(reporter, measure_memory(sizes=edges, images=images, steps=steps, say=reporter.say))


def convergence(
    kind: Annotated[KindName, typer.Option(help="What to make.")] = KindName.cars,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="Folder of `nerfgen synth`, made if empty.", show_default=False
        ),
    ] = None,
    targets: Annotated[
        str, typer.Option("--psnr", metavar="DB,DB,...", help="Novel-view PSNR to wait for, dB.")
    ] = "24,25,26",
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time of either recipe.")] = 3.0,
    images: Annotated[int, typer.Option(min=1, help="Objects to make.")] = 1000,
    size: Annotated[int, typer.Option(min=16, help="Edge of the photographs, pixels.")] = 64,
    views: Annotated[int, typer.Option(min=1, help="Held-out views to judge by.")] = 16,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """Seconds of training until novel views are so good, and where the published recipe stands in the same time.

    Both recipes have true cameras and masks, are judged by the same held-out views, and the clock stands still
    meanwhile. Judging the published one takes some minutes more.
    """
    from nerfgen.bench.convergence import measure_convergence

    reporter = _reporter(quiet)
    with reporter.progress(f"Rendering {kind.value}") as progress:
        measured = measure_convergence(
            kind.value,
            folder,
            targets=_list("--psnr", targets, 0),
            minutes=minutes,
            images=images,
            size=size,
            views=views,
            say=reporter.say,
            progress=progress,
        )
    _print(reporter, measured)


def fitting(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Folder for heads and model, which are kept there for the next time.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Heads to train on.")] = 500,
    photographs: Annotated[
        int, typer.Option(min=1, help="Other heads to fit, from a photograph each.")
    ] = 100,
    size: Annotated[int, typer.Option(min=16, help="Edge of all pictures, pixels.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 2200,
    fit_steps: Annotated[int, typer.Option(min=1, help="Steps of fitting.")] = 100,
    tune: Annotated[bool, typer.Option("--tune", help="Also tune the networks to each photograph.")] = False,
    personalise: Annotated[
        int,
        typer.Option(min=0, help="Also go on training with so many of these photographs (`train --init`)."),
    ] = 0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """Seconds in which 100 new photographs are fitted, and views of these heads that no photograph showed.

    `fast` is trained on heads whose cameras and masks are estimated, and fits other heads: from its first guess and,
    to compare, from the mean code. The seconds are those of landmarks, cameras, masks and fitting, compiling
    included; the fit from the mean comes second and finds all compiled.
    """
    from nerfgen.bench.fitting import measure_fitting

    reporter = _reporter(quiet)
    with reporter.progress("Rendering heads") as progress:
        measured = measure_fitting(
            folder,
            images=images,
            photographs=photographs,
            size=size,
            steps=steps,
            fit_steps=fit_steps,
            tune=tune,
            personalise=personalise,
            say=reporter.say,
            progress=progress,
        )
    _print(reporter, measured)


def landmark(
    folder: runtime.DataFolder,
    images: Annotated[int, typer.Option(min=1, help="How many of them to use.")] = 1000,
    rounds: Rounds = 3,
    seconds: Seconds = 120.0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """`nerfgen landmark` on all cores against a bare loop over MediaPipe's network in one process."""
    from nerfgen.bench.landmark import measure_landmark

    runtime.existing_folder(folder)
    reporter = _reporter(quiet)
    _print(
        reporter, measure_landmark(folder, images=images, rounds=rounds, seconds=seconds, say=reporter.say)
    )


def rendering(
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Model file; a small one of heads is made if none is given.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[int, typer.Option(min=1, help="Objects whose pictures are compared.")] = 3,
    sizes: Annotated[
        str, typer.Option(metavar="S,S,...", help="Further edges of pictures, for frames a second.")
    ] = "256,512",
    rounds: Rounds = 7,
    seconds: Seconds = 60.0,
    quiet: runtime.Quiet = False,
    debug: runtime.Debug = False,
) -> None:
    """Views of 128 x 128 pixels as `nerfgen render` makes them, and with 128 even samples along every ray.

    Eight views of one object are rendered at a time. The pictures of some objects are compared by PSNR.
    """
    from nerfgen.bench.rendering import measure_rendering

    edges = [int(edge) for edge in _list("--sizes", sizes, 8)] if sizes else []
    reporter = _reporter(quiet)
    measured = measure_rendering(
        model, objects=objects, sizes=edges, rounds=rounds, seconds=seconds, say=reporter.say
    )
    _print(reporter, measured)


for function, lines in (
    (
        training,
        ("nerfgen bench training", "nerfgen bench training --width 1024 --images 2"),
    ),
    (data, ("nerfgen bench data", "nerfgen bench data --images 4000 --size 128")),
    (latents, ("nerfgen bench latents", "nerfgen bench latents --rows 1000,3000000")),
    (memory, ("nerfgen bench memory", "nerfgen bench memory --sizes 64,1024 --images 16")),
    (convergence, ("nerfgen bench convergence", "nerfgen bench convergence --kind heads --psnr 22,24")),
    (fitting, ("nerfgen bench fitting", "nerfgen bench fitting --data bench --tune")),
    (landmark, ("nerfgen bench landmark photos",)),
    (
        rendering,
        ("nerfgen bench rendering", "nerfgen bench rendering --model photos/model.h5 --sizes 64,1024"),
    ),
):
    app.command(epilog=runtime.examples("Examples", *lines))(function)
