"""What a user types, and models, views and reports of others: checked before anything is computed."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import typer
from edited import edited

from nerfgen import memory
from nerfgen.cli import main, options, runtime
from nerfgen.cli.progress import Reporter
from nerfgen.errors import InputError
from nerfgen.evaluate.inputs import read_pairs
from nerfgen.evaluate.sweep import parse_sweep
from nerfgen.model import PRESETS, load_model
from nerfgen.model.objects import parse_numbers, stored_objects
from nerfgen.settings import MAX_SEED, SettingError, Settings, settings_of, types_of
from nerfgen.storage import file_record

PLANES = Path(__file__).parent / "data" / "model_planes.h5"


# What is typed.


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(_commands(typer.main.get_command(main.app)))


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``typed("render", "m.h5", ...)``: exit code and stderr of the program, in this process."""

    monkeypatch.setenv("NERFGEN_READ_LIMIT", "")
    monkeypatch.setenv("NERFGEN_FOLLOW_LINKS", "")

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["nerfgen", *words])
        code = runtime._run(main.app, debug=False)
        return code, capsys.readouterr().err

    return call


HOSTILE = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e300",
    str(2**64),
    "9" * 400,
    "9" * 5000,
    "²",
    "\ud800",
    "a\0b",
    "\x1b[31m",
)


def test_hostile_numbers_are_refused_in_one_line(typed: Callable[..., tuple[int, str]]) -> None:
    words = itertools.cycle(HOSTILE)
    tried = 0
    for path, command in COMMANDS.items():
        needed = [
            "cars" if parameter.name == "kind" else "absent"
            for parameter in command.params
            if parameter.param_type_name == "argument" and parameter.required
        ]
        for parameter in command.params:
            if getattr(parameter, "min", None) is None:
                continue
            option = f"{max(parameter.opts, key=len)}={next(words)}"
            code, err = typed(*path, *needed, option)
            assert code == 2, option
            assert re.fullmatch(r"nerfgen: [^\n\x1b]*\n", err), option
            tried += 1
    assert tried > 80


def test_every_number_has_a_least_and_a_largest_value() -> None:
    groups = [Settings]
    for group in groups:
        groups += group.__subclasses__()
    found = 0
    for group in groups[1:]:
        if not group.__module__.startswith("nerfgen."):
            continue
        for name, known in settings_of(group).items():
            if re.search(r"\b(int|float)\b", str(types_of(group)[name])):
                found += 1
                assert known.minimum is not None or known.above is not None, (group, name)
                assert known.maximum is not None or known.below is not None, (group, name)
    assert found > 100


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["segment", "x", "--siez", "3"], "no such option: --siez; did you mean --"),
        (["render", "x", "--start", "mode"], "'--start'"),
        (["lanmark", "x"], "no such command 'lanmark'; did you mean 'landmark'"),
        (["landmark"], "missing argument 'DATA'; see `nerfgen landmark --help`"),
        (["render", "x", "--rows", ""], "the word after --rows is empty"),
        (["render", "x", "--rows="], "--rows is empty"),
        (["landmark", ""], "the word after landmark is empty"),
        (["classes", "a\0b"], "NUL character"),
        (["classes", "\ud800"], "not Unicode"),
        (["--read-limit", "nan", "classes"], "positive number of GiB"),
    ],
)
def test_usage_errors_are_one_line_with_the_next_step(
    words: list[str], told: str, typed: Callable[..., tuple[int, str]]
) -> None:
    code, err = typed(*words)
    assert code == 2
    assert err.startswith("nerfgen: ")
    assert err.count("\n") == 1
    assert told in err


def test_no_words_print_help(typed: Callable[..., tuple[int, str]]) -> None:
    assert typed()[0] == 2
    assert typed("--version") == (0, "")


def test_read_limit_and_links_reach_the_environment(
    monkeypatch: pytest.MonkeyPatch, typed: Callable[..., tuple[int, str]]
) -> None:
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "")
    monkeypatch.setenv("NERFGEN_FOLLOW_LINKS", "")
    assert typed("--read-limit", "2.5", "--follow-links", "classes", "-q") == (0, "")
    assert (runtime.os.environ["NERFGEN_READ_LIMIT"], runtime.os.environ["NERFGEN_FOLLOW_LINKS"]) == (
        "2.5",
        "1",
    )


@pytest.mark.parametrize(
    "text", ["²", "１", "-1", "0-", "3-1", "0,,1", "1_0", "9" * 400, "0x1", "1e3", "all,0"]
)
def test_lists_of_rows_have_one_form(text: str) -> None:
    with pytest.raises(InputError, match="give rows such as 0,5-9, or all"):
        parse_numbers(text, 10, text, "rows")


def test_a_long_list_of_rows_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match="out of range; rows 0 to 9 exist"):
        parse_numbers("0-999999999999999", 10, "x", "rows")


@pytest.mark.parametrize("text", ["images=²", "images=0", f"seed={MAX_SEED + 1}", "size=inf", "steps=²"])
def test_sweeps_have_plain_numbers(text: str) -> None:
    with pytest.raises(InputError):
        parse_sweep(text, PRESETS["fast"])


# What would not fit.


def test_what_needs_more_memory_than_there_is_is_refused_with_the_numbers() -> None:
    memory.require_memory(1 << 30, "views", available=1 << 30)
    with pytest.raises(SettingError, match=r"views need 4\.0 GiB of memory, and this machine has 1\.0 GiB"):
        memory.require_memory(4 << 30, "views", available=1 << 30)
    assert memory.total_memory() > 1 << 28


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["render", "--rows", "0", "--size", "16384", "--antialias", "8"], "--size"),
        (["render", "--rows", "0", "--orbit", "100000", "--size", "64"], "100,001 views"),
        (
            ["render", "--rows", "0", "--yaw", "0:1:2000", "--pitch", "0:1:2000"],
            "--yaw and --pitch combine to 4,000,000",
        ),
        (["sample", "-n", "1000000000"], "1,000,000,000 latent codes"),
        (["sample", "-n", "1000000000", "--shard-size", "1", "--dataset", "out"], "--shard-size"),
    ],
)
def test_absurd_sizes_allocate_nothing(
    words: list[str],
    told: str,
    typed: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 1 << 30)
    monkeypatch.chdir(tmp_path)
    command, *rest = words
    output = [] if "--dataset" in rest else ["-o", "out.h5"]
    code, err = typed(command, str(PLANES), *rest, *output)
    assert code == 2
    assert told in err
    assert err.splitlines()[-1].startswith("nerfgen: ")
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_would_not_fit_is_refused_and_leaves_nothing(
    cars: Path, tmp_path: Path, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 1 << 30)
    before = sorted(cars.iterdir())
    for field in ("latent_size=65536", "images_per_batch=1000000", "plane_size=4096", "size=16384"):
        words = ["--cameras", f"{cars}/truth.h5", "--masks", f"{cars}/truth.h5", "--set", field]
        code, err = typed("train", str(cars), *words, "-o", str(tmp_path / "model.h5"))
        assert (code, err.count("\n")) == (2, 1)
        assert "of memory, and this machine has 1.0 GiB" in err
    assert (sorted(cars.iterdir()), list(tmp_path.iterdir())) == (before, [])


def test_pipes_and_devices_are_never_replaced(tmp_path: Path, typed: Callable[..., tuple[int, str]]) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    rows = ["--rows", "0", "--yaw", "0", "--size", "8", "--overwrite", "-q"]
    for words in (["-o", str(pipe)], ["-o", str(tmp_path / "views.h5"), "--sheet", str(pipe)]):
        code, err = typed("render", str(PLANES), *rows, *words)
        assert (code, err.count("\n")) == (2, 1)
        assert "is a pipe or a device" in err
        assert stat.S_ISFIFO(pipe.stat().st_mode)


# What a terminal and other programs receive.


def test_terminals_get_no_escapes_and_json_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("a\x1b[31m [bold]b[/bold] \ud800")
    Reporter().result({}, "two\nlines \x1b]0;title\x07")
    Reporter(as_json=True).result({"a": float("nan"), "b": [float("inf"), 1.5], "c": "\x7f\ud800"}, "")
    printed = capsys.readouterr()
    assert printed.err == "a\\x1b[31m [bold]b[/bold] \\ud800\n"
    *text, values = printed.out.splitlines()
    assert text == ["two", "lines \\x1b]0;title\\x07"]
    assert values.isprintable()
    assert json.loads(values) == {"a": None, "b": [None, 1.5], "c": "\x7f\ud800"}


def test_closed_streams_are_no_fault(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Reporter().progress("x") as progress:
        progress(1, 1)
    Reporter().say("unheard")


# Models of others.


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    """A copy of a model of an earlier version with a change."""

    def make(change: Callable[[h5py.File], None]) -> Path:
        path = tmp_path / "model.h5"
        shutil.copy(PLANES, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def _preset(**values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs["preset"] = json.dumps(json.loads(file.attrs["preset"]) | values)

    return change


def _attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _number(name: str, place: Any, value: float) -> Callable[[h5py.File], None]:
    return lambda file: file[name].__setitem__(place, value)


def _array(name: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


KERNEL = "field/foreground/outputs/kernel"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_preset(size=10**9), "size has to be at most"),
        (_preset(latent_size="4"), "latent_size has an unsuitable value"),
        (_preset(latent_size=5), "dataset field/"),
        (_preset(depth=3), "layers"),
        (_preset(width=0), "width has to be at least 1"),
        (_preset(learning_rate=float("nan")), "learning_rate has an unsuitable value"),
        (_preset(mirror=1), "mirror has an unsuitable value"),
        (_preset(field="cubes"), "field is one of mlp, planes"),
        (_preset(zzz=1), "'zzz'"),
        (_attribute("preset", "{}"), "lacks"),
        (_attribute("preset", "[" * 100_000), "attribute preset"),
        (_attribute("preset", 3), "attribute preset"),
        (lambda file: file.attrs.pop("preset"), "attribute preset"),
        (_attribute("preparation", '{"robust": "x"}'), "robust has an unsuitable value"),
        (_attribute("preparation", '{"masks": {"size": -1}}'), "size has to be at least 1"),
        (_attribute("preparation", '{"masks": 5}'), "no JSON object"),
        (_attribute("bounds", np.array([1.0, np.nan, 1.0])), "attribute bounds"),
        (_attribute("bounds", np.array([1.0, -1.0, 1.0])), "attribute bounds"),
        (_attribute("bounds", "wide"), "attribute bounds"),
        (_attribute("steps", "many"), "attribute steps"),
        (_attribute("model_version", "x"), "attribute model_version"),
        (_number("window", (0, 2), -3.0), "dataset window"),
        (_number("intrinsics", (0, 0, 0), 0.0), "dataset intrinsics"),
        (_number("cam_to_world", (0, 0, 0), 9.0), "dataset cam_to_world"),
        (_number(KERNEL, (0, 0), np.nan), f"dataset {KERNEL}"),
        (_array(KERNEL, np.zeros((3, 3), np.float32)), f"dataset {KERNEL}"),
        (_array("field/foreground", np.zeros(3)), "group field/foreground"),
        (_array("latents", np.zeros((14, 9), np.float32)), "dataset latents has 9 columns"),
        (_array("guess_offset", np.zeros(3, np.float32)), "guess_offset"),
        (lambda file: file.pop("guess_offset"), "guess_weights is there without guess_offset"),
    ],
)
def test_models_that_do_not_fit_together_are_refused_with_file_and_part(
    changed: Callable[..., Path], change: Callable[[h5py.File], None], told: str
) -> None:
    path = changed(change)
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert told in message
    assert "; " in message
    assert "\n" not in message


def test_a_model_without_rows_is_refused(changed: Callable[..., Path]) -> None:
    def empty(file: h5py.File) -> None:
        for name in (
            "image",
            "image_sha256",
            "latents",
            "image_size",
            "intrinsics",
            "cam_to_world",
            "window",
        ):
            values = file[name][:0]
            kind = file[name].dtype
            del file[name]
            file.create_dataset(name, data=values, dtype=kind)

    with pytest.raises(InputError, match="the table has no rows"):
        load_model(changed(empty))


def test_stored_objects_are_checked_against_their_model(tmp_path: Path, call: Callable[..., None]) -> None:
    model, views = load_model(PLANES), tmp_path / "views.h5"
    call("render", PLANES, "--rows", "0-1", "--yaw", "0", "--size", "8", "-q", "-o", views)
    digest = file_record(PLANES)["sha256"]
    assert len(stored_objects(model, digest, views)) == 2
    for change, told in (
        (_number("latents", (0, 0), np.nan), "dataset latents"),
        (_number("row", 0, 99), "dataset row"),
        (_number("own_intrinsics", (0, 0, 0), np.inf), "own_intrinsics"),
        (_attribute("inputs", "[]"), "made with another model"),
        (
            lambda file: file.create_dataset("photographs/0", data=np.zeros((2, 3, 3), np.uint8)),
            "photographs/0",
        ),
        (lambda file: file.create_dataset("tuned/0/foreground/zzz", data=np.zeros(3)), "tuned/0/foreground"),
    ):
        copy = tmp_path / "copy.h5"
        shutil.copy(views, copy)
        with edited(copy) as file:
            change(file)
        with pytest.raises(InputError, match=re.escape(told)):
            stored_objects(model, digest, copy)


@pytest.mark.parametrize("line", ["../a.png,b.png", "/etc/passwd,b.png", "a.png,"])
def test_lists_of_pairs_stay_in_their_folder(tmp_path: Path, line: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"source,target\n{line}\n")
    with pytest.raises(InputError, match=r"pairs\.csv, line 2"):
        read_pairs(tmp_path / "pairs.csv")


def test_words_are_checked_with_and_without_a_sign() -> None:
    options.check_word("--yaw=0", "render")
    options.check_word("--json", "render")
    with pytest.raises(SettingError, match="--yaw is empty"):
        options.check_word("--yaw= ", "render")
