"""Evaluation as a whole: the command, its files, comparisons and studies, on tiny models of cars with known cameras."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings, evaluate_model, model_report, table_names
from nerfgen.evaluate.cameras import cameras_table
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.evaluate.reconstruction import train_table
from nerfgen.evaluate.sweep import Sweep, SweepTraining, parse_sweep, run_study
from nerfgen.inversion import reconstruction_psnr
from nerfgen.metric import Mean
from nerfgen.model import PRESETS
from nerfgen.report import Study, compare, load_report, load_study, study_page
from nerfgen.synth import SynthSettings, synthesize

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Cars that the tiny model was not trained on, with held-out views."""
    folder = tmp_path_factory.mktemp("others")
    synthesize("cars", folder, SynthSettings(num_images=4, size=32, views=1, heldout_objects=4, seed=4))
    return folder


def test_psnr_of_training_images_agrees_with_latent_fitting(model, trained, cars) -> None:
    table = train_table(
        EvaluationContext(model, EvaluationInputs(trained, cars), EvaluationSettings(images=7))
    )
    measured = table.values["psnr_db"]
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", model.size)
    known = reconstruction_psnr(model, framed, model.latents, model.cam_to_world)
    rows = storage.positions(list(measured.items), framed.images)
    assert len(rows) == 7
    np.testing.assert_allclose(measured.values, known[rows], atol=1e-6)


def test_absent_or_changed_training_images_are_noted(model, trained, cars, tmp_path) -> None:
    names = [model.images[place] for place in choose_subset(model.images, 3, 0)]
    for name in names[1:]:
        (tmp_path / name).write_bytes((cars / name).read_bytes())
    (tmp_path / names[2]).write_bytes((cars / model.images[-1]).read_bytes())
    table = train_table(
        EvaluationContext(model, EvaluationInputs(trained, tmp_path), EvaluationSettings(images=3))
    )
    assert list(table.values["psnr_db"].items) == [names[1]]
    assert any("2 of 3" in line for line in table.notes)
    empty = train_table(
        EvaluationContext(model, EvaluationInputs(trained, tmp_path / "absent"), EvaluationSettings(images=3))
    )
    assert not empty.values
    assert any("absent" in line and "`data`" in line for line in empty.missing)


@pytest.mark.parametrize("table", [train_table, cameras_table])
def test_a_model_elsewhere_than_its_images_names_the_folder(
    table, model, trained, tmp_path, monkeypatch
) -> None:
    """The default folder of the images is the model's own, which may be ``.``."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = table(EvaluationContext(model, EvaluationInputs(trained, Path()), EvaluationSettings(images=3)))
    assert not made.values
    if table is train_table:
        (line,) = made.missing[:1]
        assert line.startswith("no training image was found in elsewhere; set `data`")
    # Dots of file names stay.
    assert all("truth.h5" in line for line in made.missing if "truth" in line)


def test_folders_are_named_whatever_their_path(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    monkeypatch.chdir(folder)
    names = [folder_name(Path(path)) for path in (".", "", "below/..", folder, "below")]
    assert names == ["photos", "photos", "photos", "photos", "below"]
    assert folder_name(Path("/")) == "/"


def test_smaller_choices_are_subsets_of_larger_ones() -> None:
    names = [f"{number}.png" for number in range(50)]
    some, more = choose_subset(names, 5, 0), choose_subset(names, 20, 0)
    assert set(some) < set(more)
    assert set(choose_subset(names, 5, 1)) != set(some)
    # The order of choice is independent of the other names.
    without = [name for place, name in enumerate(names) if place not in some]
    assert {without[place] for place in choose_subset(without, 15, 0)} == {
        names[place] for place in set(more) - set(some)
    }
    assert list(choose_subset(names, 99, 0)) == list(range(50))


@pytest.mark.slow
def test_the_command_reports_on_cars(run, call, capsys, trained, cars, others, tmp_path) -> None:
    output, page = tmp_path / "report.h5", tmp_path / "report.html"
    words = [
        "evaluate",
        trained,
        "--data",
        cars,
        "--held-out",
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
    result = json.loads(done.out)
    assert result["output"] == str(output)
    for table, metric in (
        ("train", "psnr_db"),
        ("train", "ssim"),
        ("fit", "psnr_db"),
        ("fit", "psnr_2x_db"),
        ("novel", "psnr_db"),
        ("depth", "pearson"),
        ("cameras", "rotation_error_deg"),
    ):
        figure = result[table][metric]
        assert figure.keys() == {"mean", "low", "high", "n"}
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert 0 < figure["n"] <= 40
    # A metric of a pretrained network is in the table, or what it needs is listed.
    for metric in ("feature_distance", "lpips"):
        listed = any(metric in line.lower() for line in result["missing"])
        assert (metric in result["train"]) != listed, metric
    # The cameras were given: they are the true ones.
    assert result["cameras"]["rotation_error_deg"]["mean"] < 1e-3
    assert any("landmark" in line for line in result["missing"])
    assert all("\n" not in line for line in result["missing"])
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with storage.reading(output, "report/1") as file:
        values = file["value"][:][
            (file["value_table"].asstr()[:] == "fit") & (file["value_metric"].asstr()[:] == "psnr_db")
        ]
    assert Mean(values).estimate().mean == pytest.approx(result["fit"]["psnr_db"]["mean"])
    call(*words)
    again = capsys.readouterr()
    assert "kept" in again.err
    assert "PSNR" in again.out
    with pytest.raises(OutputExistsError, match="--overwrite"):
        call(*words, "--seed", 1)


def test_the_same_evaluation_gives_the_same_bytes(trained, cars, tmp_path) -> None:
    for name in ("a.h5", "b.h5"):
        evaluate_model(
            EvaluationInputs(trained, cars),
            tmp_path / name,
            settings=EvaluationSettings(images=4),
            tables=["train", "cameras"],
        )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tables", "train,colour"], "colour"),
        (["--compare"], "two or more models"),
        (["--minutes", 1], "--sweep only"),
        (["--sweep", "images=3", "--compare"], "exclude"),
        (["--held-out", "absent"], "absent"),
        (["--others", "absent"], "absent"),
        (["--pairs", "absent.csv"], "absent.csv"),
    ],
)
def test_wrong_usage_is_a_one_line_error(call, trained, words, message) -> None:
    with pytest.raises(InputError, match=message):
        call("evaluate", trained, *words)


def test_models_are_compared_on_the_same_images(call, capsys, trained, cars, tiny, tmp_path) -> None:
    from nerfgen.train import TrainingFiles, train

    truth, worse = cars / "truth.h5", tmp_path / "worse.h5"
    train(TrainingFiles(cars, truth, truth, worse), tiny.with_values(steps=40), object_class="cars")
    better = tmp_path / "better.h5"
    better.write_bytes(trained.read_bytes())
    call("evaluate", "--compare", better, worse, "--data", cars, "--tables", "train", "-n", 12, "--json")
    printed = capsys.readouterr().out
    reports = [load_report(tmp_path / f"{name}.report.h5") for name in ("better", "worse")]
    values = [report.tables["train"].values["psnr_db"] for report in reports]
    assert values[0].items == values[1].items
    difference = (values[1].values - values[0].values).mean()
    assert difference < 0
    assert f"{difference:.6f}"[:7] in printed


@pytest.mark.slow
def test_a_study_keeps_complete_points(cars, tiny, tmp_path) -> None:
    output, truth = tmp_path / "study.h5", cars / "truth.h5"
    training = SweepTraining(truth, truth, tiny.with_values(steps=20))
    sources, settings = EvaluationInputs(cars / "model.h5", cars), EvaluationSettings(images=6)

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
    assert [point.estimates for point in more.points[:2]] == [point.estimates for point in first.points]
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    assert load_study(output) == more
    names = []
    for count in (8, 16):
        with h5py.File(tmp_path / "study" / f"images={count}" / "model.h5") as file:
            names.append(set(storage.strings(file["image"])))
    assert names[0] < names[1]
    with pytest.raises(InputError, match="40 usable images"):
        study("41", overwrite=True)


@pytest.mark.slow
def test_a_study_of_a_loss(call, cars, tiny_options, tmp_path, capsys) -> None:
    truth, output, page = cars / "truth.h5", tmp_path / "study.h5", tmp_path / "study.html"
    words = ["--cameras", truth, "--masks", truth, *tiny_options, "--steps", 20, "--tables", "train", "-n", 4]
    call("evaluate", cars, "--sweep", "lambda_mask=0,1", *words, "-o", output, "--json", "--html", page)
    result = json.loads(capsys.readouterr().out)
    assert (result["setting"], [point["value"] for point in result["points"]]) == ("lambda_mask", ["0", "1"])
    figures = [point["train"]["psnr_db"]["mean"] for point in result["points"]]
    assert figures[0] != figures[1]
    assert "lambda_mask" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["images", "images=", "images=0", "images=two", "lambda_hard=-1", "colour=1", "seed=1,1"]
)
def test_invalid_sweeps_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_sweep(text, PRESETS["fast"])


def test_empty_selections_are_refused_in_a_line(model, trained, cars, tiny, tmp_path) -> None:
    """In Python as at the command line."""
    inputs, output = EvaluationInputs(trained, cars), tmp_path / "report.h5"
    for tables in ([], ["colour"]):
        with pytest.raises(InputError, match="`tables`"):
            evaluate_model(inputs, output, tables=tables)
    training = SweepTraining(cars / "truth.h5", None, tiny)
    with pytest.raises(InputError, match="no value"):
        run_study(Sweep("images", []), training, inputs, tmp_path / "study.h5")
    for name, value in (("images", 0), ("samples", 1), ("fit_steps", 0), ("shown", 0), ("truncation", -1.0)):
        with pytest.raises(InputError, match=f"`{name}`"):
            EvaluationSettings(**{name: value})
    with pytest.raises(InputError, match="`reports`"):
        compare([])
    with pytest.raises(InputError, match="no point"):
        study_page(Study("images", []))
    assert not output.exists()


def test_a_report_made_without_a_network_is_not_current_once_it_is_there(
    trained, cars, tmp_path, monkeypatch
) -> None:
    inputs, output = EvaluationInputs(trained, cars), tmp_path / "report.h5"
    options = {"settings": EvaluationSettings(images=2), "tables": ["train"]}
    available: list[str] = []
    monkeypatch.setattr(
        model_report, "available_networks", lambda names, weights: [n for n in available if n in names]
    )
    assert not evaluate_model(inputs, output, **options)[1]
    assert evaluate_model(inputs, output, **options)[1]
    available.append("inception")  # the table does not use it
    assert evaluate_model(inputs, output, **options)[1]
    available.append("lpips")
    with pytest.raises(OutputExistsError, match="networks"):
        evaluate_model(inputs, output, **options)


def test_tables_are_named_in_any_order() -> None:
    assert table_names("depth, train") == ["train", "depth"]


@pytest.mark.slow
def test_the_nightly_run_fails_when_a_metric_drops(tmp_path, tiny_options) -> None:
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
    # All other metrics are within their intervals.
    (line,) = dropped.stdout.splitlines()
    assert line.startswith("cars train.psnr_db is ")
