"""Repeats the reference runs of docs/results.md; fails if a figure is worse by more than its interval.

    python examples/nightly.py nightly
    python examples/nightly.py nightly --record

Synthesises heads and cars, training and held-out objects, trains with the preset `fast`, evaluates, and compares each
figure with examples/reference.json. A figure fails if it is on the worse side of the reference's interval. --record
writes the figures there instead. Current files are kept, so that repeating the command resumes an interrupted run; a
new measurement needs an empty folder. Feature distances need the extra `perceptual`; without it they count as missing.
Exit codes: 0 all figures hold, 1 some do not.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from nerfgen.report.catalogue import metric_info
from nerfgen.storage import atomic_path

REFERENCE = Path(__file__).with_name("reference.json")
IMAGES = {"heads": 1000, "cars": 1200}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument(
        "--record", action="store_true", help="write the reference instead of comparing with it"
    )
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="reference file")
    parser.add_argument("--kinds", default="heads,cars", help="classes to run")
    parser.add_argument(
        "--images", type=int, default=0, help="objects to train on; 0: 1,000 heads, 1,200 cars"
    )
    parser.add_argument("--others", type=int, default=100, help="held-out objects")
    parser.add_argument("--size", type=int, default=64, help="size of an image, pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--train", default="", help="additional options of `nerfgen train`")
    parser.add_argument("--evaluate", default="", help="additional options of `nerfgen evaluate`")
    arguments = parser.parse_args()
    figures = {kind: measured(kind, arguments) for kind in arguments.kinds.split(",")}
    if arguments.record:
        with atomic_path(arguments.reference) as temporary:
            temporary.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {arguments.reference}")
        return 0
    reference = json.loads(arguments.reference.read_text(encoding="utf-8"))
    failures = [line for kind in figures for line in worse(kind, figures[kind], reference[kind])]
    print("\n".join(failures) or "all figures hold")
    return 1 if failures else 0


def measured(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the pipeline and the evaluation for one class; its figures by table and metric."""
    photos, others = arguments.out / kind, arguments.out / f"other-{kind}"
    made = f"--size {arguments.size} --views 4"
    count, seed = arguments.images or IMAGES[kind], arguments.seed
    run(f"synth {kind} {photos} -n {count} {made} --heldout-objects 24 --seed {seed}")
    run(
        f"synth {kind} {others} -n {arguments.others} {made} --heldout-objects {arguments.others} --seed {seed + 1}"
    )
    known = f" --cameras {photos}/truth.h5 --masks {photos}/truth.h5"
    if kind == "heads":
        run(f"landmark {photos} --class heads")
        run(f"fit-cameras {photos} --refine-canonical")
        run(f"segment {photos} --size {arguments.size}")
        known = ""
    run(f"train {photos}{known} --seed {seed} --no-preview {arguments.train}")
    page = arguments.out / f"{kind}.html"
    printed = run(
        f"evaluate {photos} --held-out {others} --seed {seed} --html {page} --json {arguments.evaluate}"
    )
    report = json.loads(printed)
    return {table: values for table, values in report.items() if isinstance(values, dict)}


def run(line: str) -> str:
    """Print and run one command line; its standard output."""
    print(f"$ nerfgen {line}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "nerfgen", *shlex.split(line)], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def worse(kind: str, found: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """A line for each figure of the reference that is missing or worse by more than its interval."""
    lines = []
    for table, metrics in reference.items():
        for metric, was in metrics.items():
            better, now = metric_info(metric).better, found.get(table, {}).get(metric)
            name = f"{kind} {table}.{metric}"
            if was["mean"] is None:
                continue
            if now is None or now["mean"] is None:
                lines.append(f"{name} is missing; the reference is {was['mean']:.4g}")
            elif (better == "higher" and now["mean"] < was["low"] - slack(was)) or (
                better == "lower" and now["mean"] > was["high"] + slack(was)
            ):
                interval = f"{was['mean']:.4g} ({was['low']:.4g} to {was['high']:.4g})"
                lines.append(f"{name} is {now['mean']:.4g}; the reference is {interval}")
    return lines


def slack(figure: dict[str, Any]) -> float:
    """The tolerance of an interval without width, such as that of a fraction of 0 or 1: one item."""
    return 1 / figure["n"] if figure["high"] - figure["low"] < 1e-6 else 0.0


if __name__ == "__main__":
    sys.exit(main())
