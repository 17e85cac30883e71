"""``nerfgen demo``: the whole pipeline on synthetic images, measured against their ground truth."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nerfgen.cli import runtime
from nerfgen.cli.progress import Messages, Reporter
from nerfgen.cli.synth import KindName

EPILOG = runtime.examples(
    "Examples", "nerfgen demo", "nerfgen demo try --quick", "nerfgen demo cars --kind cars"
)


@dataclass(frozen=True)
class _Scale:
    """How much of an example is made."""

    images: int
    size: int
    heldout_objects: int
    views: int
    steps: int
    shown: int = 6
    frames: int = 24
    settings: tuple[str, ...] = ()


_SCALES = {
    (KindName.heads, False): _Scale(images=500, size=64, heldout_objects=24, views=4, steps=2200),
    (KindName.heads, True): _Scale(
        # So short a run sees too little of each camera to move it far.
        images=80,
        size=64,
        heldout_objects=6,
        views=2,
        steps=300,
        shown=3,
        frames=12,
        settings=("camera_learning_rate=0.002",),
    ),
    (KindName.cars, False): _Scale(images=1200, size=64, heldout_objects=24, views=4, steps=7000),
    (KindName.cars, True): _Scale(
        images=150, size=48, heldout_objects=6, views=2, steps=300, shown=3, frames=12
    ),
}


def demo(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="Folder to create.")] = Path("nerfgen-demo"),
    *,
    kind: Annotated[
        KindName,
        typer.Option(
            help="[bold]heads[/bold]: cameras and masks are estimated from the images alone. "
            "[bold]cars[/bold]: the true cameras and masks are used."
        ),
    ] = KindName.heads,
    quick: Annotated[bool, typer.Option("--quick", help="Take about a minute, at lower quality.")] = False,
    seed: runtime.Seed = 0,
    overwrite: runtime.Overwrite = False,
    messages: Messages,
) -> None:
    """Synthesise images, run the pipeline's commands on them, and measure the model against the ground truth.

    Each command is printed as you would type it. Figures, files and summary.json go to OUT.
    """
    reporter = messages.reporter()
    scale = _SCALES[kind, quick]
    photos, pictures = out / kind.value, out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    again = " --overwrite" if overwrite else ""
    start = time.monotonic()
    seconds = {
        line.split()[0]: _run(line + again, reporter)
        for line in _commands(kind, scale, photos, pictures, seed)
    }
    began = time.monotonic()
    summary = _judged(photos, kind)
    seconds["judge"] = time.monotonic() - began
    seconds["total"] = time.monotonic() - start
    summary["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    _write_json(out / "summary.json", summary)
    reporter.result(summary, _told(summary, out))


def _commands(kind: KindName, scale: _Scale, photos: Path, pictures: Path, seed: int) -> list[str]:
    """The pipeline as it would be typed, without the program's name."""

    def quoted(path: Path) -> str:
        return shlex.quote(str(path))

    folder, model, truth = (quoted(path) for path in (photos, photos / "model.h5", photos / "truth.h5"))

    def picture(name: str) -> str:
        return quoted(pictures / name)

    made = (
        f"synth {kind.value} {folder} -n {scale.images} --size {scale.size} --views {scale.views} "
        f"--heldout-objects {scale.heldout_objects} --seed {seed}"
    )
    estimated = [
        f"landmark {folder} --class {kind.value} --picture {picture('landmarks.png')}",
        f"fit-cameras {folder} --refine-canonical --picture {picture('cameras.png')}",
        f"segment {folder} --size {scale.size} --picture {picture('masks.png')}",
    ]
    given = f" --cameras {truth} --masks {truth}" if kind is KindName.cars else ""
    settings = "".join(f" --set {setting}" for setting in scale.settings)
    return [
        made,
        *(estimated if kind is KindName.heads else []),
        f"train {folder}{given} --steps {scale.steps} --seed {seed}{settings}",
        f"render {model} --rows 0-{scale.shown - 1} --size {2 * scale.size} --sheet {picture('turned.png')}",
        f"sample {model} -n {scale.shown} --orbit {scale.frames} --seed {seed} --video {picture('new.gif')}",
    ]


def _run(line: str, reporter: Reporter) -> float:
    """Run one command as a user would, and say so; its results go to stderr. Returns seconds."""
    from nerfgen.errors import NerfgenError

    reporter.say("")
    reporter.say(f"$ nerfgen {line}")
    command = shlex.split(line)
    began = time.monotonic()
    quiet = ["--quiet"] if reporter.quiet else []
    done = subprocess.run(
        [sys.executable, "-m", "nerfgen", *command, *quiet], stdout=sys.stderr.fileno(), check=False
    )
    if done.returncode:
        failed = NerfgenError(
            f"`nerfgen {command[0]}` ended with exit code {done.returncode}; see its message above"
        )
        failed.exit_code = done.returncode if done.returncode > 0 else 1
        raise failed
    return time.monotonic() - began


def _judged(photos: Path, kind: KindName) -> dict[str, Any]:
    import numpy as np

    from nerfgen import storage
    from nerfgen.evaluate.held_out_views import camera_errors, score_model
    from nerfgen.model import load_model

    model, truth = load_model(photos / "model.h5"), photos / "truth.h5"
    scores = score_model(model, truth)
    detected, images = len(model.images), len(model.images)
    if kind is KindName.heads:
        with storage.reading(photos / "landmarks.h5", "landmarks/1") as file:
            usable = storage.usable(storage.strings(file["status"]))
            detected, images = int(usable.sum()), len(usable)
    return {
        "images": images,
        "detected_fraction": detected / images,
        "camera_rotation_error_deg_median": float(np.median(camera_errors(model, truth))),
        "novel_view_psnr_db": scores["psnr_db"],
        "class_mean_psnr_db": scores["class_mean_psnr_db"],
        "novel_view_foreground_psnr_db": scores["foreground_psnr_db"],
        "class_mean_foreground_psnr_db": scores["class_mean_foreground_psnr_db"],
        "depth_correlation": scores["depth_correlation"],
        "class_mean_depth_correlation": scores["class_mean_depth_correlation"],
        "depth_correlation_within_views": scores["depth_correlation_within_views"],
        "class_mean_depth_correlation_within_views": scores["class_mean_depth_correlation_within_views"],
        "mask_iou": scores["mask_iou"],
        "class_mean_mask_iou": scores["class_mean_mask_iou"],
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    from nerfgen.storage import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _told(summary: dict[str, Any], out: Path) -> str:
    def row(name: str, key: str, form: str) -> str:
        mean = f"class_mean_{key.removeprefix('novel_view_')}"
        return f"  {name:<30}{format(summary[key], form):>10}{format(summary[mean], form):>14}"

    lines = [
        "",
        f"{summary['images']} images, one per object, {summary['detected_fraction']:.1%} detected; "
        f"{summary['seconds']['total']:.0f} s in all",
        f"camera rotation error, median     {summary['camera_rotation_error_deg_median']:.2f} degrees",
        "",
        "  views that no photograph showed    model    class mean",
        row("PSNR over white, dB", "novel_view_psnr_db", ".2f"),
        row("PSNR of the foreground, dB", "novel_view_foreground_psnr_db", ".2f"),
        row("depth correlation", "depth_correlation", ".3f"),
        row("the same within each view", "depth_correlation_within_views", ".3f"),
        row("mask IoU", "mask_iou", ".3f"),
        "",
        f"turned views   {out / 'pictures' / 'turned.png'}",
        f"new objects    {out / 'pictures' / 'new.gif'}",
        f"all figures    {out / 'summary.json'}",
    ]
    return "\n".join(lines)
