"""``nerfgen demo``: the whole pipeline on the built-in example, judged against its truth."""

from __future__ import annotations

import enum
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

EPILOG = runtime.examples(
    "Examples", "nerfgen demo", "nerfgen demo try --quick", "nerfgen demo cars --kind cars"
)


class Kind(enum.StrEnum):
    """The built-in examples."""

    heads = "heads"
    cars = "cars"


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
    (Kind.heads, False): _Scale(images=500, size=64, heldout_objects=24, views=4, steps=2200),
    (Kind.heads, True): _Scale(
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
    (Kind.cars, False): _Scale(images=1200, size=64, heldout_objects=24, views=4, steps=7000),
    (Kind.cars, True): _Scale(images=150, size=48, heldout_objects=6, views=2, steps=300, shown=3, frames=12),
}


def demo(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="Folder to make.")] = Path("nerfgen-demo"),
    kind: Annotated[
        Kind,
        typer.Option(
            help="[bold]heads[/bold]: only photographs, cameras and masks are estimated. "
            "[bold]cars[/bold]: the true cameras and masks are given."
        ),
    ] = Kind.heads,
    quick: Annotated[bool, typer.Option("--quick", help="About a minute, at lower quality.")] = False,
    seed: runtime.Seed = 0,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Synthesise photographs, run the pipeline's commands on them, and judge the model by the truth.

    Every command is printed as you would type it. Pictures, files and summary.json go to OUT.
    """
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
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


def _commands(kind: Kind, scale: _Scale, photos: Path, pictures: Path, seed: int) -> list[str]:
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
    given = f" --cameras {truth} --masks {truth}" if kind is Kind.cars else ""
    settings = "".join(f" --set {setting}" for setting in scale.settings)
    return [
        made,
        *(estimated if kind is Kind.heads else []),
        f"train {folder}{given} --steps {scale.steps} --seed {seed}{settings}",
        f"render {model} --rows 0-{scale.shown - 1} --size {2 * scale.size} --sheet {picture('turned.png')}",
        f"sample {model} -n {scale.shown} --orbit {scale.frames} --seed {seed} --video {picture('new.gif')}",
    ]


def _run(line: str, reporter: runtime.Reporter) -> float:
    """Run one command as a user would, and say so; its results go to stderr. Returns seconds."""
    from nerfgen.errors import NerfgenError

    reporter.say(f"\n$ nerfgen {line}")
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


def _judged(photos: Path, kind: Kind) -> dict[str, Any]:
    import numpy as np

    from nerfgen import artifact
    from nerfgen.evaluate.truth import camera_errors, judge
    from nerfgen.field import load_model

    model, truth = load_model(photos / "model.h5"), photos / "truth.h5"
    scores = judge(model, truth)
    detected, images = len(model.images), len(model.images)
    if kind is Kind.heads:
        with artifact.reading(photos / "landmarks.h5", "landmarks/1") as file:
            usable = artifact.usable(artifact.strings(file["status"]))
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
    from nerfgen.artifact import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _told(summary: dict[str, Any], out: Path) -> str:
    def row(name: str, key: str, form: str) -> str:
        mean = f"class_mean_{key.removeprefix('novel_view_')}"
        return f"  {name:<30}{format(summary[key], form):>10}{format(summary[mean], form):>14}"

    lines = [
        "",
        f"{summary['images']} photographs of as many objects, {summary['detected_fraction']:.1%} detected; "
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
