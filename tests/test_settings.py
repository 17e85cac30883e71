"""Settings as values: checks, options that are made of them, and what a command receives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from nerfgen.cli import options
from nerfgen.settings import SettingError, Settings, parse_vector, setting


@dataclass(frozen=True)
class Lens(Settings, title="Lens"):
    """A group with every kind of field."""

    size: int | None = setting(None, minimum=1, zero_is_default=True, help="Pixels.")
    decay: float = setting(0.9, above=0, below=1, help="See `size`.")
    kind: Literal["thin", "thick-ish"] = setting("thin", help="Kind.")
    name: str = setting("a", choices=("a", "b"), hidden_option=("--title",), help="Name.")
    center: tuple[float, float, float] | None = setting(None, parse=parse_vector, help="Center.")
    files: tuple[Path, ...] = setting((), option="--file", help="Files.")
    fixed: bool | None = setting(None, option="--fixed/--free", help="Fixed.")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size": 0}, "`size` has to be at least 1, not 0"),
        ({"decay": 1.0}, "`decay` has to be below 1, not 1"),
        ({"decay": 0}, "`decay` has to be above 0, not 0"),
        ({"decay": math.nan}, "`decay` has to be finite"),
        ({"kind": "wide"}, "`kind` is one of thin, thick-ish, not 'wide'"),
        ({"name": "c"}, "`name` is one of a, b, not 'c'"),
        ({"center": (0, 0, math.inf)}, "`center` has to be finite"),
    ],
)
def test_values_are_checked_when_a_group_is_made(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        Lens(**values)


@pytest.fixture
def received() -> list[Any]:
    return []


@pytest.fixture
def invoke(received: list[Any]) -> Callable[..., Any]:
    """A command of one group, a subset and changes; ``received`` has what its function was given."""

    def command(
        thing: Annotated[str, typer.Argument()],
        *,
        lens: Lens,
        number: Annotated[int, typer.Option(help="A number.")] = 3,
    ) -> None:
        received.append((thing, lens, number, options.given()))
        if thing == "fail":
            raise SettingError("`center` and `number` and `other` are wrong")

    app = typer.Typer()
    app.command()(options.command(command))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_a_command_receives_the_group(invoke: Callable[..., Any], received: list[Any]) -> None:
    assert invoke("x").exit_code == 0
    words = ["--size", 8, "--kind", "thick-ish", "--center", "1,2,3", "--file", "a", "--file", "b", "--free"]
    assert invoke("y", *words, "--number", 4).exit_code == 0
    (thing, lens, number, given), (_, second, other, also) = received
    assert (thing, lens, number, given) == ("x", Lens(), 3, {"thing": "THING"})
    files = (Path("a"), Path("b"))
    assert (second, other) == (Lens(8, 0.9, "thick-ish", "a", (1, 2, 3), files, False), 4)
    assert also["files"] == "--file"


def test_zero_is_not_given(invoke: Callable[..., Any], received: list[Any]) -> None:
    assert invoke("x", "--size", 0).exit_code == 0
    assert received[0][1] == Lens()


def test_further_names_work_and_are_hidden(invoke: Callable[..., Any], received: list[Any]) -> None:
    assert invoke("x", "--title", "b").exit_code == 0
    assert received[0][1].name == "b"
    shown = invoke("--help").output
    assert "--name" in shown
    assert "--title" not in shown
    assert "See --size" in shown


def test_errors_name_the_options(invoke: Callable[..., Any]) -> None:
    for words, told in (
        (["fail"], "--center and --number and `other` are wrong"),
        (["x", "--center", "1,2"], "--center 1,2: give three numbers"),
    ):
        done = invoke(*words)
        assert isinstance(done.exception, SettingError)
        assert told in str(done.exception)


def test_options_without_effect_are_refused() -> None:
    options._given.clear()
    options._given.update({"size": "--size", "kind": "--kind"})
    options.refuse("is for b only", "decay")
    with pytest.raises(SettingError, match="--size is for b only"):
        options.refuse("is for b only", "size")
    with pytest.raises(SettingError, match="--kind and --size exclude each other"):
        options.exclude("kind", "decay", "size")
    options._given.clear()
