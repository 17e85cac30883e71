"""Campaigns against nerfgen: everything that docs/reliability.md promises, tried many times at random.

    python examples/campaign.py table                 every row of the tables of bad inputs
    python examples/campaign.py kill --count 30       every command, killed at 30 moments by each of three signals
    python examples/campaign.py fuzz --count 2000     2,000 mutants of every HDF5 file, read by all that reads it
    python examples/campaign.py load --count 100000   the stages on up to 100,000 images: time and memory
    python examples/campaign.py cluster --count 100000   landmarks by four workers of Dask, one of which is killed
    python examples/campaign.py disk --count 10       writing and reading that fails, and full disks

Prints a table of what was tried and what was found. The same seed tries the same, up to the moments of signals. Runs
from a clone of the repository with the extra `test`; `load` and `kill` take hours at these counts. `disk` needs a C
compiler, and the right to mount for full disks; without one of them that part is left out.
Exit codes: 0 nothing was found, 1 something was.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import disk  # noqa: E402 (beside the tests)
import good_files  # noqa: E402
import kills  # noqa: E402
import load  # noqa: E402
import mutants  # noqa: E402
import reliability_rows  # noqa: E402
from forked_program import ForkedProgram  # noqa: E402

COUNTS = {"table": 0, "kill": 30, "fuzz": 2000, "load": 100_000, "cluster": 100_000, "disk": 10}
# Of `cluster`, in turns: the machine may do other things meanwhile.
_ROUNDS = 2
# Of an image's landmarks in the journal, at least.
_ROW_BYTES = 2000
# Limits of `load`: memory, and how fast time may grow with the number of images (exponent).
_MEMORY, _EXPONENT = 2 << 30, 1.1
# Below this, processor time is mostly that of starting and compiling.
_LEAST_SECONDS = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("campaign", choices=list(COUNTS))
    parser.add_argument("--count", type=int, help="how often each case is tried; for load the most images")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument(
        "--only", default="", help="cases to try, separated by commas, such as cameras/1 or segment"
    )
    parser.add_argument("--work", type=Path, help="folder to work in; a temporary one by default")
    arguments = parser.parse_args()
    kills.heed_interrupts()
    count = COUNTS[arguments.campaign] if arguments.count is None else arguments.count
    only = [name for name in arguments.only.split(",") if name]
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="campaign-") as scratch:
        run = {
            "table": _table,
            "kill": _kill,
            "fuzz": _fuzz,
            "load": _load,
            "cluster": _cluster,
            "disk": _disk,
        }[arguments.campaign]
        findings = list(run(Path(scratch), count, arguments.seed, only))
    print("\n".join(findings) or "nothing was found")
    return 1 if findings else 0


def _good(scratch: Path) -> Path:
    """One file of every schema, and what it was made from."""
    _say("making files")
    folder = scratch / "good"
    folder.mkdir()
    with ForkedProgram(scratch / "io") as program:
        return good_files.make_files(program, folder, slow=True)


def _table(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    good = _good(scratch)
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    findings = []
    with ForkedProgram(scratch / "io") as program:
        for row in reliability_rows.rows():
            if only and not any(name in f"{row.table} {row.command}" for name in only):
                continue
            _, found = reliability_rows.check(row, scratch, good, program)
            tried[row.table] += 1
            wrong[row.table] += bool(found)
            findings += [f"{row.command}: {'; '.join(found)}"] if found else []
    _print_table(("table", "rows", "wrong"), [(name, tried[name], wrong[name]) for name in tried])
    yield from findings


def _kill(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    good = _good(scratch)
    commands = kills.commands(good, scratch / "inputs", good_files.recipe(steps=60))
    chosen = [each for each in commands if not only or each.name in only]
    table = kills.kill_campaign(chosen, count, seed=seed)
    print(kills.report(table))
    for (name, number), outcome in table.items():
        yield from (f"{name} {number}: {fault}" for fault in outcome.faults)


def _fuzz(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    good = _good(scratch)
    lines, findings = [], []
    for schema in only or good_files.FILES:
        with mutants.Readers() as readers:
            seeds = range(seed * count, (seed + 1) * count)
            found = mutants.campaign(schema, good, scratch / "mutants", readers, seeds, _say, verify_every=5)
        outcomes = found.outcomes
        other = sum(outcomes.values()) - outcomes["read"] - outcomes["refused"]
        lines.append(
            (schema, found.mutants, sum(outcomes.values()), outcomes["refused"], outcomes["read"], other)
        )
        _say(str(lines[-1]))
        findings += found.findings
    _print_table(("schema", "mutants", "readings", "refused", "read", "findings"), lines)
    yield from findings


def _load(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    sizes = sorted({max(100, round(count * part)) for part in (0.03, 0.1, 0.3, 1.0)})
    measured: dict[str, list[dict[str, float]]] = {stage: [] for stage in load.STAGES}
    lines = []
    for size in sizes:
        data = scratch / f"images-{size}"
        load.make_images(data, size)
        for stage in load.STAGES:
            words = [sys.executable, load.__file__, str(data), stage]
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=load.environment())
            if done.returncode:
                yield f"{stage}, {size} images: {done.stderr.strip()[-300:]}"
                return
            result = json.loads(done.stdout.splitlines()[-1])
            measured[stage].append(result | {"images": size})
            gib = result["memory"] / 2**30, result["worker_memory"] / 2**30
            lines.append((stage, size, f"{result['processor']:.1f}", f"{gib[0]:.2f}", f"{gib[1]:.2f}"))
            _say(str(lines[-1]))
            if sum(gib) * 2**30 > _MEMORY:
                yield f"{stage}, {size} images: {sum(gib):.2f} GiB"
    _print_table(("stage", "images", "processor s", "GiB", "GiB of workers"), sorted(lines))
    for stage, results in measured.items():
        exponent = _slope(results)
        print(f"{stage}: time grows with the number of images to the power of {exponent:.2f}")
        if exponent > _EXPONENT:
            yield f"{stage}: exponent {exponent:.2f}"


def _cluster(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    """The same landmarks by four worker processes and by four workers of Dask, in turns.

    ``--only real`` takes the estimator of faces in place of a double that costs nothing: the overhead of a stage whose
    images cost what they do.
    """
    stage = "real landmark" if "real" in only else "landmark"
    data = scratch / "images"
    load.make_images(data, count)
    output, expected = data / "landmarks.h5", scratch / "expected.h5"
    lines = []
    for scheduler in ("", "local") * _ROUNDS:
        words = [sys.executable, load.__file__, str(data), stage, "4", scheduler]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=load.environment()) as process:
            killed = _kill_a_worker(process, output, count) if scheduler else 0
            printed, _ = process.communicate()
        if process.returncode:
            yield f"{scheduler or 'processes'}: exit code {process.returncode}"
            return
        result = json.loads(printed.splitlines()[-1])
        lines.append(
            (
                scheduler or "processes",
                count,
                killed,
                f"{result['seconds']:.1f}",
                f"{result['processor']:.1f}",
            )
        )
        _say(str(lines[-1]))
        if not expected.exists():
            output.rename(expected)
            continue
        if not filecmp.cmp(output, expected, shallow=False):
            yield f"{scheduler or 'processes'}: other bytes"
        output.unlink()
    _print_table(("workers", "images", "killed", "s", "processor s"), lines)
    for column, name in ((3, "time"), (4, "processor time")):
        alone, together = (sum(float(line[column]) for line in lines[start::2]) for start in (0, 1))
        print(f"{name} with Dask: {together / alone:.3f} of that of worker processes")


def _kill_a_worker(process: subprocess.Popen[str], output: Path, count: int) -> int:
    """Kill a worker of a run in its first half; the number of workers that were killed."""
    journal = output.with_name(f".{output.name}.journal")
    while process.poll() is None:
        time.sleep(1.0)
        if not journal.exists() or journal.stat().st_size < _ROW_BYTES * count // 4:
            continue
        busy = {each: _processor(each) for each in load.started(process.pid)}
        os.kill(max(busy, key=lambda each: busy[each]), signal.SIGKILL)
        return 1
    return 0


def _processor(process: int) -> int:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _slope(results: Sequence[dict[str, float]]) -> float:
    """Least-squares exponent of processor time over images, where it is more than that of starting."""
    pairs = [
        (math.log(each["images"]), math.log(each["processor"]))
        for each in results
        if each["processor"] > _LEAST_SECONDS
    ]
    if len(pairs) < 2:
        return 0.0
    x, y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)


def _disk(scratch: Path, count: int, seed: int, only: Sequence[str]) -> Iterator[str]:
    good = _good(scratch)
    chosen = [each for each in disk.COMMANDS if not only or each.name in only]
    tried: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    findings = []
    for name, label, found in disk.campaign(good, scratch, count, random.Random(seed), chosen, _say):
        place = name, label.split()[0]
        tried[place] += 1
        wrong[place] += bool(found)
        findings += [f"{name}, {label}: {'; '.join(found)}"] if found else []
    _print_table(
        ("command", "failing", "tried", "wrong"), [(*place, tried[place], wrong[place]) for place in tried]
    )
    yield from findings


def _print_table(names: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    rows = [names, *([str(value) for value in line] for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    for row in rows:
        print("  ".join(str(value).ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
