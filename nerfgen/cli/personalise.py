"""``nerfgen personalise``: one person by several photographs, and the networks adjusted to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nerfgen.cli import options, runtime
from nerfgen.cli.progress import Messages, other_statuses
from nerfgen.inversion import FitSettings, PersonalSettings
from nerfgen.storage import Record

EPILOG = runtime.examples(
    "Examples",
    "nerfgen personalise photos/model.h5 anna -o anna.h5",
    "nerfgen render photos/model.h5 --codes anna.h5:0 --yaw -40,-20,0,20,40 --sheet anna.png",
    "nerfgen view photos/model.h5 --codes anna.h5",
    "nerfgen render faces --server http://renderer.example:8080 --codes anna.h5:0 --orbit 48 --video anna.mp4",
)

_FITTING = (
    "landmarker",
    "models",
    "steps",
    "start",
    "refine_cameras",
    "tune_steps",
    "seed",
    "workers",
)
SUFFIX = ".personal.h5"


def personalise(
    model: runtime.ModelFile,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES ...",
            help="Folder of images of one person, or several images, or URLs of either.",
            show_default=False,
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the person; by default that of the folder or of the first image.",
            show_default=False,
        ),
    ] = None,
    settings: PersonalSettings,
    fitting: Annotated[dict[str, object], options.Fields(FitSettings, _FITTING, "Fitting of images")],
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Learn one person from several photographs; writes NAME.personal.h5 beside the model.

    The person gets a latent code, each photograph one near it, and the networks one small change. The file holds these
    as objects: 0 is the person, 1 the first photograph, and so on. `--codes FILE:0` of other commands takes them.
    """
    from nerfgen import storage
    from nerfgen.inversion import name_images
    from nerfgen.inversion import personalise as learn
    from nerfgen.model import PERSONAL_SCHEMA, load_model, model_file, save_personal
    from nerfgen.settings import SettingError

    path = model_file(model)
    called = name or Path(images[0].rstrip("/")).stem
    if not called or any(character in called for character in "/\\,:"):
        raise SettingError(f"`name` {called}: give a word without / \\ , :")
    reporter = messages.reporter()
    trained = load_model(path)
    inputs, names = name_images(images)
    fit = FitSettings(**fitting, tune=settings.tune)  # type: ignore[arg-type]
    stage = storage.Stage(
        output.output or path.with_name(f"{called}{SUFFIX}"),
        PERSONAL_SCHEMA,
        trained.object_class,
        parameters={"name": called, "spread": settings.spread, **fit.parameters},
        inputs=[
            storage.file_record(path),
            storage.folder_record(names, [each.digest for each in inputs]),
            *(storage.file_record(file) for file in (fit.landmarker,) if file),
        ],
    )
    if stage.is_current(overwrite=output.overwrite):
        reporter.kept(stage.output)
    else:
        with reporter.progress("fitting", "steps") as progress:
            found = learn(
                trained,
                images,
                name=called,
                settings=settings,
                fitting=fit,
                progress=progress,
                warn=reporter.say,
            )
        save_personal(stage, found)
    summary = _summary(stage.output)
    reporter.result(summary, "\n".join(_lines(summary)))
    runtime.check_strict(strict, summary["images"] - summary["fitted"], summary["images"])


def _summary(path: Path) -> Record:
    """What a personal file holds."""
    import numpy as np

    from nerfgen import storage
    from nerfgen.model import PERSONAL_SCHEMA

    with storage.reading(path, PERSONAL_SCHEMA) as file:
        names, status = storage.strings(file["name"]), storage.strings(file["status"])
        psnr, latents = file["fit_psnr"][:].tolist(), file["latents"][:]
        tuned = "delta" in file
    away = np.linalg.norm(latents[1:] - latents[0], axis=1).tolist()
    photographs = [
        {"name": each, "status": state, "psnr_db": value if value == value else None, "distance": distance}
        for each, state, value, distance in zip(names[1:], status[1:], psnr[1:], away, strict=True)
    ]
    return {
        "name": names[0],
        "images": len(photographs),
        "fitted": sum(each["status"] in storage.USABLE for each in photographs),
        "statuses": {value: status[1:].count(value) for value in dict.fromkeys(status[1:])},
        "psnr_db": psnr[0],
        "tuned": tuned,
        "photographs": photographs,
        "output": str(path),
    }


def _lines(summary: Record) -> list[str]:
    """The summary for a person."""
    change = "networks tuned to them" if summary["tuned"] else "networks unchanged"
    lines = [
        f"{summary['name']}: {summary['fitted']} of {summary['images']} photographs, {change}, "
        f"{summary['psnr_db']:.1f} dB -> {summary['output']}" + other_statuses(summary["statuses"])
    ]
    for number, each in enumerate(summary["photographs"], 1):
        result = "" if each["psnr_db"] is None else f", {each['psnr_db']:.1f} dB"
        lines.append(f"  {number} {each['name']}: {each['status']}{result}")
    return lines
