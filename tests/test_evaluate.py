"""Evaluation as a whole: the command, its files, comparisons and studies, on tiny models of known cars."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.evaluate import Settings, Sources, evaluate_model, table_names
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.evaluate.sweep import Training, parse_sweep, run_study
from nerfgen.evaluate.training import train_table
from nerfgen.generate import reconstruction_psnr
from nerfgen.metric import Mean
from nerfgen.report import load_report
from nerfgen.report.study import load_study
from nerfgen.synth import write_dataset
from nerfgen.train import PRESETS, load_framed

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Cars that the tiny model has not seen, with held-out views."""
    folder = tmp_path_factory.mktemp("others")
    write_dataset("cars", folder, num_images=4, size=32, views=1, heldout_objects=4, seed=4)
    return folder


def test_training_photographs_are_met_as_the_fit_says(model, trained, cars) -> None:
    table = train_table(Subject(model, Sources(trained, cars), Settings(images=7)))
    measured = table.values["psnr_db"]
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", model.size)
    known = reconstruction_psnr(model, framed, model.latents, model.cam_to_world)
    rows = artifact.positions(list(measured.items), framed.images)
    assert len(rows) == 7
    np.testing.assert_allclose(measured.values, known[rows], atol=1e-6)


def test_a_photograph_that_is_gone_or_changed_is_told(model, trained, cars, tmp_path) -> None:
    names = [model.images[place] for place in choose(model.images, 3, 0)]
    for name in names[1:]:
        (tmp_path / name).write_bytes((cars / name).read_bytes())
    (tmp_path / names[2]).write_bytes((cars / model.images[-1]).read_bytes())
    table = train_table(Subject(model, Sources(trained, tmp_path), Settings(images=3)))
    assert list(table.values["psnr_db"].items) == [names[1]]
    assert any("2 of 3" in line for line in table.notes)
    empty = train_table(Subject(model, Sources(trained, tmp_path / "absent"), Settings(images=3)))
    assert not empty.values
    assert any("--data" in line for line in empty.missing)


def test_fewer_photographs_are_some_of_more() -> None:
    names = [f"{number}.png" for number in range(50)]
    some, more = choose(names, 5, 0), choose(names, 20, 0)
    assert set(some) < set(more)
    assert set(choose(names, 5, 1)) != set(some)
    # Whether one is chosen before another does not hang on who else is there.
    without = [name for place, name in enumerate(names) if place not in some]
    assert {without[place] for place in choose(without, 15, 0)} == {
        names[place] for place in set(more) - set(some)
    }
    assert list(choose(names, 99, 0)) == list(range(50))


def test_the_command_reports_on_cars(run, trained, cars, others, tmp_path) -> None:
    output, page = tmp_path / "report.h5", tmp_path / "report.html"
    words = [
        "evaluate",
        trained,
        "--data",
        cars,
        "--others",
        others,
        "-n",
        3,
        "--samples",
        4,
        "--fit-steps",
        5,
    ]
    words += ["-o", output]
    done = run(*words, "--json", "--html", page)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["output"] == str(output)
    for table, metric in (
        ("train", "psnr_db"),
        ("train", "ssim"),
        ("fit", "psnr_db"),
        ("fit", "psnr_2x_db"),
        ("novel", "psnr_db"),
        ("depth", "pearson"),
        ("cameras", "rotation_error_deg"),
    ):
        figure = told[table][metric]
        assert figure.keys() == {"mean", "low", "high", "n"}
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert 0 < figure["n"] <= 40
    # The cameras were given: they are the true ones.
    assert told["cameras"]["rotation_error_deg"]["mean"] < 1e-3
    assert any("landmark" in line for line in told["missing"])
    assert all("\n" not in line for line in told["missing"])
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with artifact.reading(output, "report/1") as file:
        values = file["value"][:][
            (file["value_table"].asstr()[:] == "fit") & (file["value_metric"].asstr()[:] == "psnr_db")
        ]
    assert Mean(values).estimate().mean == pytest.approx(told["fit"]["psnr_db"]["mean"])
    again = run(*words)
    assert (again.code, "kept" in again.err) == (0, True)
    assert "PSNR" in again.out
    other = run(*words, "--seed", 1)
    assert (other.code, "--overwrite" in other.err) == (2, True)


def test_the_same_evaluation_gives_the_same_bytes(trained, cars, tmp_path) -> None:
    for name in ("a.h5", "b.h5"):
        evaluate_model(
            Sources(trained, cars), tmp_path / name, settings=Settings(images=4), tables=["train", "cameras"]
        )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tables", "train,colour"], "colour"),
        (["--compare"], "two models"),
        (["--minutes", 1], "--sweep only"),
        (["--sweep", "images=3", "--compare"], "exclude"),
        (["--others", "absent"], "absent"),
        (["--pairs", "absent.csv"], "absent.csv"),
    ],
)
def test_wrong_use_is_told_in_a_line(call, trained, words, told) -> None:
    with pytest.raises(InputError, match=told):
        call("evaluate", trained, *words)


def test_models_are_compared_on_the_same_photographs(run, trained, cars, tiny, tmp_path) -> None:
    from nerfgen.train import TrainingFiles, train

    truth, worse = cars / "truth.h5", tmp_path / "worse.h5"
    train(TrainingFiles(cars, truth, truth, worse), tiny.with_values(steps=40), object_class="cars")
    better = tmp_path / "better.h5"
    better.write_bytes(trained.read_bytes())
    done = run(
        "evaluate", "--compare", better, worse, "--data", cars, "--tables", "train", "-n", 12, "--json"
    )
    assert done.code == 0, done.err
    reports = [load_report(tmp_path / f"{name}.report.h5") for name in ("better", "worse")]
    values = [report.tables["train"].values["psnr_db"] for report in reports]
    assert values[0].items == values[1].items
    difference = (values[1].values - values[0].values).mean()
    assert difference < 0
    assert f"{difference:.6f}"[:7] in done.out


def test_a_study_goes_on_where_it_was_left(cars, tiny, tmp_path) -> None:
    output, truth = tmp_path / "study.h5", cars / "truth.h5"
    training = Training(truth, truth, tiny.with_values(steps=20))
    sources, settings = Sources(cars / "model.h5", cars), Settings(images=6)

    def study(values: str, **options):
        sweep = parse_sweep(f"images={values}", training.recipe)
        return run_study(sweep, training, sources, output, settings=settings, tables=["train"], **options)

    first, kept = study("8,16")
    assert not kept
    assert [(point.images, point.steps) for point in first.points] == [(8, 20), (16, 20)]
    assert study("8,16") == (first, True)
    with pytest.raises(OutputExistsError, match="sweep"):
        study("8,16,24")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("model.h5")}
    assert len(written) == 2
    more, kept = study("8,16,24", overwrite=True)
    assert [point.figures for point in more.points[:2]] == [point.figures for point in first.points]
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    assert load_study(output) == more
    names = []
    for count in (8, 16):
        with h5py.File(tmp_path / "study" / f"images={count}" / "model.h5") as file:
            names.append(set(artifact.strings(file["image"])))
    assert names[0] < names[1]
    with pytest.raises(InputError, match="40 usable images"):
        study("41", overwrite=True)


def test_a_study_of_a_loss(call, cars, tiny_options, tmp_path, capsys) -> None:
    truth, output, page = cars / "truth.h5", tmp_path / "study.h5", tmp_path / "study.html"
    words = ["--cameras", truth, "--masks", truth, *tiny_options, "--steps", 20, "--tables", "train", "-n", 4]
    call("evaluate", cars, "--sweep", "lambda_mask=0,1", *words, "-o", output, "--json", "--html", page)
    told = json.loads(capsys.readouterr().out)
    assert (told["setting"], [point["value"] for point in told["points"]]) == ("lambda_mask", ["0", "1"])
    figures = [point["train"]["psnr_db"]["mean"] for point in told["points"]]
    assert figures[0] != figures[1]
    assert "lambda_mask" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["images", "images=", "images=0", "images=two", "lambda_hard=-1", "colour=1", "seed=1,1"]
)
def test_sweeps_that_can_not_be_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_sweep(text, PRESETS["fast"])


def test_tables_are_named_in_any_order() -> None:
    assert table_names("depth, train") == ["train", "depth"]


@pytest.mark.slow
def test_the_nightly_run_fails_when_a_figure_drops(tmp_path, tiny_options) -> None:
    reference = tmp_path / "reference.json"
    words = [
        "--kinds",
        "cars",
        "--images",
        "25",
        "--others",
        "3",
        "--size",
        "24",
        "--reference",
        str(reference),
    ]
    words += ["--train", " ".join(["--steps", "30", "--size", "24", *tiny_options])]
    words += ["--evaluate", "-n 3 --tables train"]

    def nightly(*more: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(ROOT / "examples" / "nightly.py"),
            str(tmp_path / "out"),
            *words,
            *more,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    recorded = nightly("--record")
    assert recorded.returncode == 0, recorded.stderr
    figures = json.loads(reference.read_text(encoding="utf-8"))
    for name in ("mean", "low", "high"):
        figures["cars"]["train"]["psnr_db"][name] += 20
    reference.write_text(json.dumps(figures), encoding="utf-8")
    dropped = nightly()
    assert dropped.returncode == 1
    # All other figures hold.
    (line,) = dropped.stdout.splitlines()
    assert line.startswith("cars train.psnr_db is ")
