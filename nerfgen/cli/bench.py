"""``nerfgen bench``: measurements of the program on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Reporter
from nerfgen.cli.synth import KindName
from nerfgen.settings import MAX_COUNT, MAX_MINUTES, Settings, setting

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure speed, memory and convergence on this machine.\n\n"
    "Alternatives are measured in turns in one run, and the median turn counts. Each command prints one JSON object.",
    epilog=runtime.examples(
        "Examples",
        "nerfgen bench training",
        "nerfgen bench convergence --kind cars",
        "nerfgen bench memory --sizes 64,256",
    ),
)


Rounds = Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Maximum number of rounds.")]
Seconds = Annotated[
    float,
    typer.Option(min=0.0, max=60 * MAX_MINUTES, help="Stop starting new rounds after this many seconds."),
]


@dataclass(frozen=True)
class Messages(Settings, title="Output"):
    """What a benchmark prints beside its result, which is always JSON."""

    quiet: bool = setting(
        False, option=("-q", "--quiet"), help="Print no progress and no messages, only errors."
    )
    debug: bool = setting(False, help="Show the traceback of an error.")

    def reporter(self) -> Reporter:
        """What prints accordingly."""
        return Reporter(quiet=self.quiet, as_json=True)


def _print(reporter: Reporter, measured: dict[str, Any]) -> None:
    reporter.result({name: _rounded(value) for name, value in measured.items()}, "")


def _rounded(value: Any) -> Any:
    """Floats to five digits, more than their accuracy."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _list(option: str, text: str, least: float, most: float) -> list[float]:
    """Numbers from ``least`` to ``most``, separated by commas.

    Raises:
        InputError: other words.
    """
    from nerfgen.errors import InputError

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not (numbers and all(least <= number <= most for number in numbers)):
        raise InputError(f"{option} {text}: give numbers from {least:g} to {most:g}, separated by commas")
    return numbers


def training(
    *,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images per step.")] = 8,
    rays_per_image: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rays per image.")] = 32,
    width: Annotated[int, typer.Option(min=1, max=65_536, help="Width of the foreground network.")] = 256,
    rounds: Rounds = 5,
    seconds: Seconds = 45.0,
    messages: Messages,
) -> None:
    """The published network's training step: nerfgen's, PyTorch's, and the machine's peak.

    PyTorch takes the same step on the same rays, written the usual way: in float32, compiled, and in bfloat16, with
    fewer rays where that is slow. Without PyTorch (pip install torch==2.13.0) its figures are null. The operations per
    second of the step's matrix products are compared with those of one large product.
    """
    from nerfgen.bench.published_step import measure_training

    reporter = messages.reporter()
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
    *,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images to make.")] = 1000,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Size of the images, in pixels.")] = 64,
    rounds: Rounds = 20,
    seconds: Seconds = 30.0,
    messages: Messages,
) -> None:
    """The fast step with its pixels kept on the device, in host memory and on disk.

    Also the fraction of the time that the step waits for data, and the batches per second without a step.
    """
    from nerfgen.bench.training_step import measure_data

    reporter = messages.reporter()
    _print(reporter, measure_data(images=images, size=size, rounds=rounds, seconds=seconds, say=reporter.say))


def latents(
    *,
    rows: Annotated[str, typer.Option(metavar="K,K,...", help="Rows of the table.")] = "1000,100000,1000000",
    rounds: Rounds = 20,
    seconds: Seconds = 60.0,
    messages: Messages,
) -> None:
    """The fast step with a growing table of latent codes and the same batch.

    Codes have 32 numbers, and no local features: 1,000,000 rows take 0.5 GB with their moments and cameras.
    """
    from nerfgen.bench.training_step import measure_latents

    counts = [int(count) for count in _list("--rows", rows, 1, MAX_COUNT)]
    reporter = messages.reporter()
    _print(reporter, measure_latents(rows=counts, rounds=rounds, seconds=seconds, say=reporter.say))


def stages(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of face images, of any depth.", show_default=False)
    ],
    *,
    images: Annotated[int, typer.Option(min=8, max=MAX_COUNT, help="Images to take.")] = 600,
    messages: Messages,
) -> None:
    """What each further image takes in the commands before training: milliseconds of one core, and bytes of the file.

    Every command runs on a quarter of the images, then on all.
    """
    from nerfgen.bench.processes import measure_stages

    runtime.existing_folder(folder)
    reporter = messages.reporter()
    _print(reporter, measure_stages(folder, images=images, say=reporter.say))


def memory(
    *,
    sizes: Annotated[
        str, typer.Option(metavar="S,S,...", help="Sizes of the framed images, in pixels.")
    ] = "64,128,256,512",
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images to make.")] = 64,
    steps: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Steps of each run.")] = 50,
    messages: Messages,
) -> None:
    """Peak memory of training from disk with growing images and the same batch.

    Each point is a complete `nerfgen train --data disk` in its own process, framing included.
    """
    from nerfgen.bench.processes import measure_memory

    edges = [int(edge) for edge in _list("--sizes", sizes, 16, 2048)]
    reporter = messages.reporter()
    _print(reporter, measure_memory(sizes=edges, images=images, steps=steps, say=reporter.say))


def startup(
    *,
    model: Annotated[
        Path | None,
        runtime.file_option(
            "Model file; by default a small model of heads is trained.", "MODEL", None, "--model"
        ),
    ] = None,
    image: Annotated[
        Path | None,
        runtime.file_option(
            "New image of the model's class; by default a synthetic head.", "IMAGE", None, "--image"
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Runs of each command after its first.")
    ] = 3,
    messages: Messages,
) -> None:
    """Seconds from the start of a command to its end, where little is computed.

    Each command runs once with an empty compilation cache, then again with what it left there.
    """
    from nerfgen.bench.processes import measure_startup

    reporter = messages.reporter()
    _print(reporter, measure_startup(model, image, rounds=rounds, say=reporter.say))


def convergence(
    *,
    kind: Annotated[KindName, typer.Option(help="Class of the objects.")] = KindName.cars,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="Folder of `nerfgen synth`, filled if empty.", show_default=False
        ),
    ] = None,
    targets: Annotated[
        str, typer.Option("--psnr", metavar="DB,DB,...", help="Novel-view PSNRs to reach, in dB.")
    ] = "24,25,26",
    minutes: Annotated[
        float, typer.Option(min=0.01, max=MAX_MINUTES, help="Training time of each recipe.")
    ] = 3.0,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Objects to make.")] = 1000,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Size of the images, in pixels.")] = 64,
    views: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Held-out views that measure the quality.")
    ] = 16,
    messages: Messages,
) -> None:
    """Seconds of training until novel views reach a PSNR, and the PSNR of the published recipe after the same time.

    Both recipes have true cameras and masks and are measured on the same held-out views, while the clock is paused.
    Measuring the published one takes some minutes more.
    """
    from nerfgen.bench.convergence import measure_convergence

    reporter = messages.reporter()
    with reporter.progress(f"Rendering {kind.value}") as progress:
        measured = measure_convergence(
            kind.value,
            folder,
            targets=_list("--psnr", targets, 0, 100),
            minutes=minutes,
            images=images,
            size=size,
            views=views,
            say=reporter.say,
            progress=progress,
        )
    _print(reporter, measured)


def fitting(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Folder for the heads and the model, which are kept there for the next run.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Heads to train on.")] = 500,
    new_images: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Other heads to fit, from one image each.")
    ] = 100,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Size of all images, in pixels.")] = 64,
    steps: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Steps of training.")] = 2200,
    fit_steps: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Steps of fitting.")] = 100,
    tune: Annotated[bool, typer.Option("--tune", help="Also tune the networks to each image.")] = False,
    personalise: Annotated[
        int,
        typer.Option(
            min=0,
            max=1_000_000,
            help="Also continue training with this number of the new images (`train --init`).",
        ),
    ] = 0,
    messages: Messages,
) -> None:
    """Seconds to fit 100 new images, and the quality of novel views of these heads.

    `fast` is trained on heads with estimated cameras and masks, and fits other heads: from its initial guess and, for
    comparison, from the mean latent code. The seconds include landmarks, cameras, masks, fitting and compiling; the fit
    from the mean comes second, when all is compiled.
    """
    from nerfgen.bench.fitting import measure_fitting

    reporter = messages.reporter()
    with reporter.progress("Rendering heads") as progress:
        measured = measure_fitting(
            folder,
            images=images,
            new_images=new_images,
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
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of images, of any depth.", show_default=False)
    ],
    *,
    images: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of images to use.")] = 1000,
    rounds: Rounds = 3,
    seconds: Seconds = 120.0,
    messages: Messages,
) -> None:
    """`nerfgen landmark` on all cores against a bare loop over MediaPipe's network in one process."""
    from nerfgen.bench.landmark import measure_landmark

    runtime.existing_folder(folder)
    reporter = messages.reporter()
    _print(
        reporter, measure_landmark(folder, images=images, rounds=rounds, seconds=seconds, say=reporter.say)
    )


def rendering(
    *,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Model file; by default a small model of heads is trained.",
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Objects whose renderings are compared.")
    ] = 3,
    sizes: Annotated[
        str, typer.Option(metavar="S,S,...", help="Further sizes, for frames per second.")
    ] = "256,512",
    rounds: Rounds = 7,
    seconds: Seconds = 60.0,
    messages: Messages,
) -> None:
    """Views of 128 x 128 pixels as `nerfgen render` makes them, and with 128 stratified samples per ray.

    Eight views of one object are rendered at a time. The renderings of some objects are compared by PSNR.
    """
    from nerfgen.bench.rendering import measure_rendering

    edges = [int(edge) for edge in _list("--sizes", sizes, 8, 4096)] if sizes else []
    reporter = messages.reporter()
    measured = measure_rendering(
        model, objects=objects, sizes=edges, rounds=rounds, seconds=seconds, say=reporter.say
    )
    _print(reporter, measured)


def viewing(
    model: runtime.ModelFile,
    *,
    events: Annotated[
        int, typer.Option(min=1, max=100_000, help="Number of single moves of the camera to time.")
    ] = 100,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Time of turning without a pause.")
    ] = 10.0,
    size: Annotated[
        int, typer.Option(min=128, max=4096, help="Width and height of the window, in pixels.")
    ] = 512,
    messages: Messages,
) -> None:
    """The viewer: from a move of the camera to its frame, and frames per second while the object turns.

    A page without a browser sends the messages of the viewer's page and receives its frames. Needs the extra `view`.
    """
    from nerfgen.errors import extra_imports
    from nerfgen.model import model_file

    with extra_imports("the viewer", "view"):
        from nerfgen.bench.viewing import measure_viewing

    reporter = messages.reporter()
    measured = measure_viewing(model_file(model), events=events, seconds=seconds, size=size, say=reporter.say)
    _print(reporter, measured)


def serving(
    model: runtime.ModelFile,
    *,
    clients: Annotated[int, typer.Option(min=1, max=400, help="Clients at a time.")] = 16,
    objects: Annotated[
        int, typer.Option(min=1, max=100_000, help="Training objects, each shown from eight sides.")
    ] = 8,
    size: Annotated[int, typer.Option(min=1, max=1024, help="Size of the views, in pixels.")] = 128,
    media: Annotated[
        str, typer.Option("--accept", metavar="TYPE", help="Media type of the answers.")
    ] = "image/png",
    rounds: Rounds = 7,
    seconds: Seconds = 60.0,
    messages: Messages,
) -> None:
    """The rendering service: views per second for many clients, against a loop over `render_views` in the server.

    Each client asks for one view at a time, from another process. Needs the extra `serve`.
    """
    from nerfgen.errors import extra_imports

    with extra_imports("the service", "serve"):
        from nerfgen.bench.serving import measure_serving

    reporter = messages.reporter()
    measured = measure_serving(
        model,
        clients=clients,
        objects=objects,
        size=size,
        media=media,
        rounds=rounds,
        seconds=seconds,
        say=reporter.say,
    )
    _print(reporter, measured)


for function, lines in (
    (
        training,
        ("nerfgen bench training", "nerfgen bench training --width 1024 --images 2"),
    ),
    (data, ("nerfgen bench data", "nerfgen bench data --images 4000 --size 128")),
    (latents, ("nerfgen bench latents", "nerfgen bench latents --rows 1000,10000000")),
    (stages, ("nerfgen bench stages photos",)),
    (memory, ("nerfgen bench memory", "nerfgen bench memory --sizes 64,1024 --images 16")),
    (startup, ("nerfgen bench startup", "nerfgen bench startup --model photos/model.h5 --image me.jpg")),
    (convergence, ("nerfgen bench convergence", "nerfgen bench convergence --kind heads --psnr 22,24")),
    (fitting, ("nerfgen bench fitting", "nerfgen bench fitting --data bench --tune")),
    (landmark, ("nerfgen bench landmark photos",)),
    (
        rendering,
        ("nerfgen bench rendering", "nerfgen bench rendering --model photos/model.h5 --sizes 64,1024"),
    ),
    (viewing, ("nerfgen bench viewing photos/model.h5",)),
    (
        serving,
        (
            "nerfgen bench serving photos/model.h5",
            "nerfgen bench serving photos/model.h5 --clients 64 --size 256",
        ),
    ),
):
    app.command(epilog=runtime.examples("Examples", *lines), cls=options.Command)(options.command(function))
