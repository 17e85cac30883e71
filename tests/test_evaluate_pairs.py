"""Table *pairs*: two images of one object, on cars whose cameras and masks are known."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from edited import edited
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.evaluate import EvaluationInputs, EvaluationSettings
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.pairs import pairs_table
from nerfgen.metric import Median, match_exposure, reprojection_errors
from nerfgen.model import load_model
from nerfgen.report import Report, load_report, report_page, report_text
from nerfgen.report.catalogue import METRICS, metric_info, metric_title
from nerfgen.report.pair_metrics import COMPARED, PairMetric, metric_matrices, parse_pair_metric
from nerfgen.synth import SynthSettings, synthesize

FEW = EvaluationSettings(images=6, fit_steps=20, shown=2)
# Gain and offset, of 255, of the darker copy of an image.
GAIN, OFFSET = 0.6, 40
CONDITIONS = [(background, matched) for background in ("white", "own") for matched in (False, True)]


def write_rows(path: Path, rows) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@dataclass(frozen=True)
class Cars:
    """A folder of cars that the tiny model was not trained on: ``darker`` is ``first`` in another light, and
    ``unknown`` has no camera."""

    folder: Path
    first: str
    darker: str
    other: str
    unknown: str = "unknown.png"


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Cars:
    folder = tmp_path_factory.mktemp("others")
    synthesize("cars", folder, SynthSettings(num_images=3, size=32, views=1, heldout_objects=0, seed=4))
    first, darker, other = sorted(path.name for path in folder.glob("*.png"))
    image = np.asarray(Image.open(folder / first).convert("RGB"))
    dark = np.round(image * GAIN + OFFSET).astype(np.uint8)
    Image.fromarray(dark).save(folder / darker)
    Image.fromarray(image).save(folder / "unknown.png")
    with edited(folder / "truth.h5") as file:
        assert file["image"].asstr()[:2].tolist() == [first, darker]
        for name in ("mask", "intrinsics", "cam_to_world", "mask_window"):
            file[name][1] = file[name][0]
    return Cars(folder, first, darker, other)


@dataclass(frozen=True)
class Evaluated:
    """What the command wrote and printed."""

    report: Report
    printed: dict
    page: str

    def value(self, metric: str, pair: int) -> float:
        return float(self.report.tables["pairs"].values[metric].values[pair])


@pytest.fixture(scope="module")
def evaluated(run, trained, cars, others, tmp_path_factory) -> Evaluated:
    """Four pairs: an image with itself, with itself in another light, with another car, and with an unusable image."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [(others.first, name) for name in (others.first, others.darker, others.other, others.unknown)]
    pairs = write_rows(folder / "pairs.csv", [("source", "target"), *rows])
    output, page = folder / "report.h5", folder / "page.html"
    given = ["--data", cars, "--held-out", others.folder, "--pairs", pairs, "--tables", "pairs"]
    done = run("evaluate", trained, *given, "--fit-steps", 20, "-o", output, "--html", page, "--json")
    assert done.code == 0, done.err
    return Evaluated(load_report(output), json.loads(done.out), page.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_an_image_turned_to_itself_is_its_own_fit(evaluated) -> None:
    for background, matched in CONDITIONS:
        for measure in ("psnr_db", "ssim"):
            turned, itself = (
                evaluated.value(PairMetric(name, background, matched, measure).name, 0)
                for name in ("turned", "itself")
            )
            assert turned == itself
    for background in ("white", "own"):
        assert evaluated.value(f"unturned_{background}_psnr_db", 0) > 100
        assert evaluated.value(f"unturned_{background}_ssim", 0) == pytest.approx(1)
        assert evaluated.value(f"turned_beats_unturned_{background}_fraction", 0) == 0
        assert evaluated.value(f"turning_loss_{background}_db", 0) == 0
    # The tiny model keeps the given cameras.
    assert evaluated.value("camera_angle_deg", 0) == pytest.approx(0, abs=1e-6)
    assert evaluated.value("camera_loss_own_db", 2) == pytest.approx(0)


@pytest.mark.slow
def test_matching_undoes_another_exposure(evaluated) -> None:
    for background in ("white", "own"):
        assert evaluated.value(f"unturned_{background}_psnr_db", 1) < 30
        assert evaluated.value(f"unturned_{background}_matched_psnr_db", 1) > 45
    # Another car is not the same one in another light.
    assert evaluated.value("unturned_own_matched_psnr_db", 2) < 30
    for compared in COMPARED:
        plain, matched = (
            evaluated.value(PairMetric(compared, "own", how, "psnr_db").name, 2) for how in (False, True)
        )
        assert matched > plain - 0.05, compared


@pytest.mark.slow
def test_the_fit_of_the_target_sees_more_than_the_class_mean(evaluated) -> None:
    means = {name: each.mean for name, each in evaluated.report.estimates["pairs"].items()}
    assert means["itself_white_psnr_db"] > means["class_mean_white_psnr_db"] + 0.5
    assert means["turning_loss_white_db"] == pytest.approx(
        means["itself_white_psnr_db"] - means["turned_white_psnr_db"]
    )
    assert 0.7 < means["opacity"] <= 1


@pytest.mark.slow
def test_unusable_images_of_pairs_are_named(evaluated, others) -> None:
    table = evaluated.report.tables["pairs"]
    assert any(line.startswith("3 of 4 pairs") for line in table.notes)
    assert any("1 pairs" in line and others.unknown in line for line in table.notes)
    assert len(table.values["opacity"].items) == 3


@pytest.mark.slow
def test_pairs_are_shown_as_matrices_and_images(evaluated) -> None:
    assert evaluated.printed["pairs"]["turned_own_matched_ssim"]["n"] == 3
    for title in ("turned, landmark camera", "class mean", "unturned", "target, fitted itself"):
        assert title in evaluated.page
    assert evaluated.page.count("<img") == 3 * 7
    lines = report_text(evaluated.report).splitlines()
    (heading,) = [place for place, line in enumerate(lines) if line.strip().startswith("PSNR, dB")]
    turned = next(line for line in lines[heading:] if line.strip().startswith("turned"))
    estimates = evaluated.report.estimates["pairs"]
    assert turned.split()[1:] == [
        f"{estimates[PairMetric('turned', *condition, 'psnr_db').name].mean:.2f}" for condition in CONDITIONS
    ]
    assert max(len(line) for line in lines) <= 100
    # A comparison lists every metric with its differences.
    assert metric_title("turned_white_matched_psnr_db") in report_page([evaluated.report] * 2)


@pytest.mark.slow
def test_a_refined_camera_is_compared_with_the_given_one(model, trained, cars, others, tmp_path) -> None:
    pairs = write_rows(tmp_path / "pairs.csv", [("source", "target"), (others.first, others.other)])
    inputs = EvaluationInputs(trained, cars, others.folder, pairs)
    moving = replace(model, recipe=model.recipe.with_values(camera_learning_rate=1e-3))
    table = pairs_table(EvaluationContext(moving, inputs, FEW))
    angle = table.values["camera_angle_deg"].values
    assert list(table.values["camera_angle_deg"].items) == [others.first, others.other]
    assert (angle > 0.1).all()
    assert table.pooled["camera_angle_median_deg"].mean == pytest.approx(np.median(angle))
    seen = [table.values[f"{name}_own_psnr_db"].values for name in ("turned", "turned_landmark_camera")]
    assert seen[0] != seen[1]
    assert table.values["camera_loss_own_db"].values == seen[0] - seen[1]


@pytest.mark.slow
@pytest.mark.mediapipe
def test_cameras_of_pairs_are_judged_by_their_landmarks(trained, tmp_path) -> None:
    """Fitted to the pixels alone, cameras of heads leave the landmarks that they were fitted to."""
    synthesize("heads", tmp_path, SynthSettings(num_images=2, size=96, seed=7))
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    pairs = write_rows(tmp_path / "pairs.csv", [("source", "target"), names])
    small = load_model(Path(__file__).parent / "data" / "model_planes.h5")
    moving = replace(small, recipe=small.recipe.with_values(camera_learning_rate=1e-3))
    inputs = EvaluationInputs(trained, tmp_path, tmp_path, pairs)
    table = pairs_table(EvaluationContext(moving, inputs, FEW, workers=1))
    after, before = (table.values[name].values for name in ("reprojection_px", "landmark_reprojection_px"))
    assert (before < 3).all()
    assert (after > before).all()


@pytest.mark.slow
def test_without_masks_whole_images_are_compared(model, trained, cars, others, tmp_path) -> None:
    for name in (others.first, others.other):
        shutil.copyfile(others.folder / name, tmp_path / name)
    shutil.copyfile(others.folder / "truth.h5", tmp_path / "cameras.h5")
    pairs = write_rows(tmp_path / "pairs.csv", [("source", "target"), (others.first, others.other)])
    unmasked = replace(model, recipe=model.recipe.with_values(lambda_mask=0.0))
    table = pairs_table(
        EvaluationContext(unmasked, EvaluationInputs(trained, cars, tmp_path, pairs), FEW, workers=1)
    )
    assert any("masks" in line for line in table.missing)
    own, white = (table.values[f"unturned_{background}_psnr_db"].values for background in ("own", "white"))
    assert own == white


def test_pairs_need_their_list_and_its_images(model, trained, cars, others, tmp_path) -> None:
    table = pairs_table(EvaluationContext(model, EvaluationInputs(trained, cars, others.folder), FEW))
    assert not table.values
    assert any("`pairs`" in line for line in table.missing)
    pairs = write_rows(tmp_path / "pairs.csv", [("source", "target"), (others.first, "absent.png")])
    for folder, message in ((others.folder, r"pairs.csv.*absent.png"), (None, "held_out")):
        with pytest.raises(InputError, match=message):
            pairs_table(EvaluationContext(model, EvaluationInputs(trained, cars, folder, pairs), FEW))
    write_rows(pairs, [("source", "target"), (others.first, others.unknown)])
    table = pairs_table(EvaluationContext(model, EvaluationInputs(trained, cars, others.folder, pairs), FEW))
    assert not table.values
    assert any(others.unknown in line for line in table.missing)


# --- parts ---


def test_matched_exposure_leaves_white_and_never_inverts() -> None:
    generator = np.random.default_rng(0)
    color, opacity = generator.random((6, 6, 3)) * 0.8, np.full((6, 6), 0.5)
    opacity[0], opacity[1] = 0.0, 1.0
    foreground, where = color * opacity[..., None], opacity > -1
    gain, offset = np.array([0.5, 0.8, 1.1]), np.array([0.1, 0.0, 0.05])
    changed = (color * gain + offset) * opacity[..., None]
    matched = match_exposure(foreground, opacity, changed + 1 - opacity[..., None], where)
    np.testing.assert_allclose(matched, changed, atol=1e-12)
    inverted = match_exposure(color, np.ones((6, 6)), 1 - color, where)
    assert np.ptp(inverted, axis=(0, 1)) == pytest.approx(0, abs=1e-12)
    nothing = match_exposure(color, np.ones((6, 6)), color, where & False)
    assert np.isfinite(nothing).all()


def test_reprojection_errors_are_over_observed_points() -> None:
    canonical = np.array([[0.0, 0, 0], [0.1, 0, 0]])
    intrinsics, pose = np.diag([100.0, 100.0, 1.0])[None], np.eye(4)[None].copy()
    pose[0, 2, 3] = -2.0
    points = np.array([[[3.0, 4.0], [5.0, 0.0]]])
    assert reprojection_errors(points, canonical, intrinsics, pose) == pytest.approx([np.sqrt(12.5)])
    points[0, 1] = np.nan
    assert reprojection_errors(points, canonical, intrinsics, pose) == pytest.approx([5.0])
    assert np.isnan(reprojection_errors(points * np.nan, canonical, intrinsics, pose)).all()


def test_a_median_leaves_out_what_was_not_measured() -> None:
    estimate = (Median(np.array([1.0, np.nan, 2.0])) + Median(np.array([9.0]))).estimate()
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert 1 <= estimate.low <= estimate.high <= 9


def test_names_of_pair_metrics_say_what_is_compared() -> None:
    metric = PairMetric("turned_landmark_camera", "own", True, "psnr_db")
    assert metric.name == "turned_landmark_camera_own_matched_psnr_db"
    assert parse_pair_metric(metric.name) == metric
    assert not any(parse_pair_metric(name) for name in METRICS)
    info = metric_info(metric.name)
    assert (info.unit, info.digits, info.better) == ("dB", 2, "higher")
    assert metric_info("unturned_own_psnr_db").better == ""
    # A measure of later versions.
    assert metric_info("turned_white_colour").title == "turned_white_colour"
    (matrix,), others = metric_matrices(["opacity", "turned_own_ssim", "itself_white_ssim"])
    assert others == ["opacity"]
    assert [title for title, _ in matrix.rows] == ["turned", "itself"]
