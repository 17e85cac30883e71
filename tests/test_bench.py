"""Benchmarks measure what they say, at sizes that tell nothing of speed."""

from __future__ import annotations

import importlib.util
import json
import math
import time

import pytest

from nerfgen.bench.published_step import step_flops
from nerfgen.bench.timing import median_in_turns
from nerfgen.bench.training_step import short
from nerfgen.model import PRESETS

TORCH = importlib.util.find_spec("torch") is not None


def measured(run, *arguments):
    """What a benchmark printed: one JSON object and nothing else."""
    done = run("bench", *arguments)
    assert done.code == 0, done.err
    return json.loads(done.out)


def positive(values):
    return all(math.isfinite(value) and value > 0 for value in values)


@pytest.mark.slow
def test_training(run):
    options = ["--images", 2, "--rays-per-image", 4, "--width", 16, "--rounds", 2, "--seconds", 5]
    done = run("bench", "training", *options)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert positive(
        result[name] for name in ("rays_per_second", "step_flops_per_second", "matmul_flops_per_second")
    )
    assert 0 < result["fraction_of_matmul_peak"] < 1.5
    assert result["bf16_rays_per_second"] is None  # what training takes on a CPU is float32
    names = [f"{kind}_{way}" for way in ("eager", "compiled", "bf16") for kind in ("ratio_torch", "torch")]
    names = [f"{name}_rays_per_second" if name.startswith("torch") else name for name in names]
    if not TORCH:
        assert {result[name] for name in [*names, "torch_loss_difference", "torch_bf16_rays"]} == {None}
        assert "pip install torch" in done.err
        return
    assert positive(result[name] for name in names if result[name] is not None)
    assert result["torch_loss_difference"] < 1e-4  # the same network on the same samples


@pytest.mark.slow
def test_data(run):
    result = measured(run, "data", "--images", 12, "--size", 16, "--rounds", 2, "--seconds", 5)
    for name in ("batches_per_second", "seconds_per_step"):
        assert result[name].keys() == {"device", "host", "disk"}
        assert positive(result[name].values())
    assert result["data_wait_share"]["device"] == 0
    assert all(0 <= share < 1 for share in result["data_wait_share"].values())
    assert positive((result["ratio_host_over_device"], result["ratio_disk_over_device"]))


@pytest.mark.slow
def test_latents(run):
    result = measured(run, "latents", "--rows", "10,2000", "--rounds", 2)
    assert result["seconds_per_step"].keys() == {"10", "2000"}
    assert positive([*result["seconds_per_step"].values(), result["ratio_k_2e3_over_1e1"]])
    assert result["in_place"]


@pytest.mark.slow
def test_memory(run):
    result = measured(run, "memory", "--sizes", "16,32", "--images", 3, "--steps", 2)
    assert result["peak_mib"].keys() == {"16", "32"}
    assert all(value > 50 for value in result["peak_mib"].values())
    ratio = result["peak_mib"]["32"] / result["peak_mib"]["16"]
    assert result["ratio_32_over_16"] == pytest.approx(ratio, rel=1e-3)


@pytest.mark.slow
def test_convergence(run, tmp_path):
    sizes = ["--minutes", 0.02, "--images", 4, "--size", 16, "--views", 2, "--quiet"]
    done = run("bench", "convergence", "--data", tmp_path / "cars", "--psnr", "1,99", *sizes)
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert result["seconds_to_psnr"]["1"] > 0
    assert result["seconds_to_psnr"]["99"] is None
    assert 0 < result["fast_psnr_db"] < 99
    assert 0 < result["paper_psnr_db"] < 99
    assert result["images"] == 4
    assert not list((tmp_path / "cars").glob("pixels*")), "the user's folder keeps only what synth makes"


@pytest.mark.slow
def test_viewing(run, trained):
    pytest.importorskip("viser")
    result = measured(run, "viewing", trained, "--events", 3, "--seconds", 1, "--size", 128)
    assert 0 < result["latency_ms_median"] <= result["latency_ms_95"]
    assert result["size_of_turning_frames"] <= 128
    assert result["frames_per_second"] > 0


@pytest.mark.slow
def test_serving(run, trained):
    pytest.importorskip("fastapi")
    few = ["--clients", 3, "--objects", 2, "--size", 16, "--rounds", 2]
    result = measured(run, "serving", trained, *few)
    assert positive(result[name] for name in ("views_per_second_http", "views_per_second_loop"))
    assert result["ratio_http_over_loop"] == pytest.approx(
        result["views_per_second_http"] / result["views_per_second_loop"], rel=1e-3
    )
    assert 0 < result["latency_ms_median"] <= result["latency_ms_95"]


@pytest.mark.slow
def test_rendering(run, trained):
    result = measured(run, "rendering", "--model", trained, "--objects", 1, "--sizes", "16,32", "--rounds", 1)
    assert result["frames_per_second"].keys() == {"16", "32"}
    assert positive([*result["frames_per_second"].values(), result["ms_per_view_128"]])
    ratio = result["ms_per_view_128_uniform"] / result["ms_per_view_128"]
    assert result["speedup_over_128_uniform"] == pytest.approx(ratio, rel=1e-3)
    assert result["agreement_db"] >= result["agreement_db_least"] > 40, "the pictures are the same"


@pytest.mark.slow
@pytest.mark.mediapipe
def test_fitting(run, tmp_path):
    sizes = ["--images", 4, "--new-images", 2, "--steps", 20, "--fit-steps", 3, "--personalise", 1]
    sizes += ["--data", tmp_path]
    result = measured(run, "fitting", *sizes)
    assert (result["images"], result["new_images"]) == (4, 2)
    seconds = result["seconds_framing"] + result["seconds_fitting"]
    assert result["seconds_for_100"] == pytest.approx(seconds * 100 / 2, rel=1e-3)
    assert result["starts"].keys() == {"guess", "mean"}
    assert positive(result["personalised"].values())
    assert result["novel_view_psnr_db_fitted"] == result["starts"]["guess"]["novel_view_psnr_db"]
    names = ("novel_view_psnr_db_training", "camera_rotation_error_deg_training", "seconds_for_100")
    assert positive(result[name] for name in names)
    for start in result["starts"].values():
        assert positive(start[name] for name in ("seconds", "fit_psnr_db", "camera_rotation_error_deg"))
        assert start["iterations"] in (3, 6)


@pytest.mark.mediapipe
def test_landmark(run, tmp_path):
    assert run("synth", "heads", tmp_path, "-n", 2, "--size", 64, "--views", 0).code == 0
    result = measured(run, "landmark", tmp_path, "--rounds", 1)
    assert result["images"] == 2
    assert positive((result["bare_images_per_second"], result["stage_images_per_second"]))


def test_wrong_lists_are_told(run):
    done = run("bench", "latents", "--rows", "few")
    assert done.code == 2
    assert "--rows few" in done.err


def test_the_median_of_the_turns_counts():
    calls, waits = [], iter((0.0, 0.2, 0.0))

    def slow_once():
        calls.append("b")
        time.sleep(next(waits))

    options = {"seconds": 60, "say": lambda line: None}
    taken = median_in_turns({"a": lambda: calls.append("a"), "b": slow_once}, rounds=3, **options)
    assert calls == list("ababab")
    assert taken.keys() == {"a", "b"}
    assert taken["b"] < 0.2
    median_in_turns({"a": lambda: calls.append("a")}, rounds=9, **(options | {"seconds": 0}))
    assert len(calls) == 7, "one round, however little time there is"


def test_operations_of_the_published_step():
    # 8 layers of 256, of which the first and the fifth see 63 numbers of the point and the code's share.
    preset = PRESETS["paper"]
    rays = preset.images_per_batch * preset.rays_per_image
    per_sample = 2 * (3 * (7 * 256**2 + 4 * 256) + 2 * 2 * 63 * 256)
    per_ray = 2 * (3 * (4 * 256**2 + 3 * 256) + 2 * 15 * 256)
    per_image = 2 * 3 * 3 * 256 * 256
    assert step_flops(preset) == rays * (128 * per_sample + per_ray) + preset.images_per_batch * per_image


def test_short_names_of_counts():
    assert [short(count) for count in (7, 1000, 1500, 1_000_000)] == ["7e0", "1e3", "15e2", "1e6"]
