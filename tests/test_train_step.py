"""The parts of a training step, and what a run hands out while it is under way."""

from __future__ import annotations

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edited import edited

from nerfgen.data import Batch, open_pixel_cache, separate_rows, table_rows
from nerfgen.errors import InputError
from nerfgen.geometry import (
    corrected_cameras,
    keypoint_displacement,
    pixel_rays,
    turned_camera,
    with_focal,
    yaw_pitch_roll,
)
from nerfgen.model import PRESETS, load_model
from nerfgen.objectclass import object_class
from nerfgen.optimize import AXIS, Clock, Limits, device_mesh, quickly_compiled, run_loop
from nerfgen.train import Machine, Observers, StepInput, StepPlan, TrainingFiles, make_step, train
from nerfgen.train.gradients import batch_rays, pass_loss
from nerfgen.train.initial_codes import codes_from_images, thumbnail_components
from nerfgen.train.setup import effective_recipe, set_up
from nerfgen.train.state import OCCUPANCY_SIZE, active_latents, initial_state, shard_state
from nerfgen.train.step_plan import ImageUnknowns

BOUNDS = object_class("cars").bounds


NO_KEYPOINTS = np.zeros((0, 3))


def plan_of(recipe, rows, canonical=NO_KEYPOINTS, **execution):
    options = {"num_devices": 1, "images_per_pass": recipe.images_per_batch} | execution
    return StepPlan.of_rows(recipe, BOUNDS, rows, 0, canonical, **options)


def batch_of(recipe, count=None):
    rng = np.random.default_rng(4)
    images = count or recipe.images_per_batch
    pose = np.stack([turned_camera(yaw, 10.0, 4.0) for yaw in np.linspace(-40, 40, images)])
    matrix = np.tile(np.array([[40.0, 0, 12], [0, 40.0, 12], [0, 0, 1]]), (images, 1, 1))
    shape = (images, recipe.rays_per_image)
    return Batch(
        images=jnp.arange(images, dtype=jnp.int32),
        rgb_mask=jnp.asarray(rng.integers(0, 256, (*shape, 4), np.uint8)),
        centers=jnp.asarray(rng.uniform(0, 24, (*shape, 2)), jnp.float32),
        intrinsics=jnp.asarray(matrix, jnp.float32),
        cam_to_world=jnp.asarray(pose, jnp.float32),
    )


def lowered(recipe, instances):
    """The step as text, for images of these objects."""
    rows, mesh = table_rows(instances), device_mesh(1)
    state = initial_state(recipe, BOUNDS, rows, 0, np.ones((OCCUPANCY_SIZE,) * 3, np.float32))
    given = StepInput(batch_of(recipe), jnp.asarray(rows.of_image, jnp.int32), jnp.float32(0))
    step = make_step(plan_of(recipe, rows), mesh, streamed=True)
    return step.lower(shard_state(state, mesh), given).as_text()


def test_the_rows_of_images_are_no_part_of_the_program(tiny):
    """A table of another assignment and the same size runs the same program: none of it is compiled in."""
    first, second = (["a", "a", "b", "c"] * 10, ["a", "b", "b", "c"] * 10)
    assert lowered(tiny, first) == lowered(tiny, second)


def test_rehearsal_renderings_keep_their_cameras(tiny):
    """A learned focal length is one of the new images: the model's own renderings were made with theirs."""
    recipe = replace(tiny, focal_learning_rate=1e-3, camera_learning_rate=1e-2)
    plan = replace(plan_of(recipe, separate_rows(6)), num_base=2, num_rehearsal=3)
    batch, trainable = batch_of(recipe, 6), jnp.arange(6) >= 3
    corrections = jnp.where(trainable[:, None], jnp.full((6, 6), 0.05), 0.0)
    networks = {"field": {}, "log_focal": jnp.float32(0.3)}
    found = batch_rays(plan, networks, corrections, batch, trainable)
    plain = pixel_rays(batch.centers, batch.intrinsics, batch.cam_to_world)
    moved = corrected_cameras(batch.cam_to_world, corrections, jnp.zeros(6))
    changed = pixel_rays(batch.centers, *with_focal(batch.intrinsics, moved, jnp.exp(jnp.float32(0.3))))
    for own, as_rendered, as_learned in zip(found, plain, changed, strict=True):
        np.testing.assert_allclose(own[:3], as_rendered[:3], atol=1e-6)
        np.testing.assert_allclose(own[3:], as_learned[3:], atol=1e-6)
        assert np.abs(own[3:] - as_rendered[3:]).max() > 1e-2


@pytest.mark.slow
def test_models_of_a_run_under_way_are_as_the_networks_see_them(cars, tiny, tmp_path):
    """Latent dimensions fade in after the cameras are refined; before, they hold noise that nothing has looked at."""
    recipe = tiny.with_values(
        steps=80,
        camera_learning_rate=1e-3,
        pose_fraction=0.5,
        pose_fade=0.25,
        pose_latent_size=3,
        latent_std=0.1,
    )
    seen = []
    train(
        TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "model.h5"),
        recipe,
        object_class="cars",
        refine_cameras=True,
        machine=Machine(cache=tmp_path / "pixels.h5"),
        checkpoint_minutes=0.0,
        observers=Observers(checkpoint=seen.append),
    )
    assert [model.steps for model in seen] == [20, 40, 60, 80]
    spread = [np.abs(model.latents[:, 3:]).max() for model in seen]
    assert spread[:2] == [0, 0]
    assert spread[2] > 0
    final = load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(seen[-1].latents, final.latents)


def test_all_latent_dimensions_are_in_use_at_the_end(tiny):
    recipe = tiny.with_values(camera_learning_rate=1e-3, pose_fraction=0.5, pose_fade=0.5)
    latents = jnp.ones((2, 8), jnp.float32)
    np.testing.assert_array_equal(active_latents(latents, recipe, 1.0), latents)
    with pytest.raises(InputError, match="never fade in"):
        tiny.with_values(pose_fraction=0.6, pose_fade=0.5)


def test_a_cache_that_is_removed_while_training_loses_nothing(cars, tiny, tmp_path):
    def remove(model):
        (tmp_path / "pixels.h5").unlink(missing_ok=True)

    options = {"object_class": "cars", "machine": Machine(cache=tmp_path / "pixels.h5", placement="disk")}
    truth = cars / "truth.h5"
    for name, observers in (("one", Observers(checkpoint=remove)), ("two", Observers())):
        files = TrainingFiles(cars, truth, truth, tmp_path / f"{name}.h5")
        train(files, tiny.with_values(steps=40), **options, checkpoint_minutes=0.0, observers=observers)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_the_paper_presets_have_the_published_batch_in_passes_that_fit():
    for name in ("paper", "paper-hq"):
        recipe = PRESETS[name]
        assert (recipe.images_per_batch, recipe.rays_per_image, recipe.steps) == (4096, 32, 500_000)
        per_pass = Machine().images_per_pass(recipe, device_mesh(1))
        assert recipe.images_per_batch % per_pass == 0
        # Activations of a pass stay below 100 MB on a CPU.
        points = per_pass * recipe.rays_per_image * recipe.samples
        assert points * recipe.width * recipe.depth * 4 < 150e6


def counting_loop(limits, *, done=0, stop_at=None, steps_per_call=1):
    """What a loop did: (step, until) of the calls, steps of the reports, steps of the checkpoints."""
    clock, calls, reports, saved = Clock(limits, done=done), [], [], []

    def advance(state, step, until, fraction):
        calls.append((step, until))
        return until

    def report(state):
        reports.append(state)
        return state

    final = run_loop(
        advance,
        done,
        clock,
        report_every=4,
        steps_per_call=steps_per_call,
        report=report,
        should_stop=lambda: stop_at is not None and clock.done >= stop_at,
        save=saved.append,
    )
    return final, calls, reports, saved


def test_the_loop_reports_at_multiples_and_at_the_end():
    final, calls, reports, saved = counting_loop(Limits(10))
    assert (final, reports, saved) == (10, [4, 8, 10], [])
    assert calls == [(step, step + 1) for step in range(10)]
    final, calls, reports, _ = counting_loop(Limits(10), done=3, steps_per_call=3)
    assert (final, reports) == (10, [4, 8, 10])
    assert calls == [(3, 4), (4, 7), (7, 8), (8, 10)]


def test_a_loop_that_is_stopped_saves_and_goes_no_further():
    final, _, reports, saved = counting_loop(Limits(10), stop_at=6)
    assert (final, reports, saved) == (6, [4], [6])


def test_checkpoints_are_due_by_time_but_not_at_the_end():
    _, _, reports, saved = counting_loop(Limits(12, checkpoint_minutes=0.0))
    assert (reports, saved) == ([4, 8, 12], [4, 8])


def test_a_loop_without_end_is_refused():
    for limits in (Limits(None), Limits(None, 0.0)):
        with pytest.raises(InputError, match="`steps` or `minutes`"):
            limits.require_one()
    clock = Clock(Limits(None, minutes=1e-4))
    run_loop(lambda state, *_: state, None, clock, report_every=1, report=lambda state: state)
    assert clock.fraction >= 1.0


def test_the_axis_of_a_mesh_has_its_devices():
    mesh = device_mesh(1)
    assert mesh.axis_names == (AXIS,)
    assert mesh.size == 1
    assert device_mesh(None).size == len(jax.local_devices())


@pytest.mark.parametrize(("backend", "fewer_passes"), [("cpu", True), ("gpu", False), ("tpu", False)])
def test_compiler_passes_are_left_out_on_cpus_only(monkeypatch, backend, fewer_passes):
    """The option was measured on CPUs, and other compilers may not know it."""
    asked = []

    def jit(function, *, static_argnums, compiler_options):
        asked.append(compiler_options)
        return function

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "jit", jit)
    assert quickly_compiled(static_argnums=())(lambda value: value + 1)(2) == 3
    assert asked == [{"xla_llvm_disable_expensive_passes": True} if fewer_passes else None]


@pytest.fixture
def cache(cars, tiny, tmp_path):
    truth = cars / "truth.h5"
    with open_pixel_cache(
        cars, truth, truth, tiny.size, object_class="cars", inputs=[], path=tmp_path / "pixels.h5"
    ) as opened:
        yield opened


def test_initial_codes_tell_objects_apart_but_not_their_poses(cache, tiny):
    rows = table_rows(cache.instance)
    recipe = tiny.with_values(latent_size=6)
    components = thumbnail_components(cache, rows, recipe)
    codes = codes_from_images(cache, rows, recipe, components, 0, rows.count)
    assert codes.shape == (rows.count, 6)
    # A part, as a host asks for that of its devices, is bit-identical; rows of padding are zeros.
    part = codes_from_images(cache, rows, recipe, components, 11, rows.count + 3)
    np.testing.assert_array_equal(part[:-3], codes[11:])
    assert not part[-3:].any()
    np.testing.assert_allclose(codes.std(axis=0), 0.15, rtol=1e-3)
    np.testing.assert_allclose(np.corrcoef(codes.T), np.eye(6), atol=1e-4)
    # What is left of the camera in them: nothing that a linear function of its angles could find.
    angles = yaw_pitch_roll(cache.cam_to_world[rows.first_image])[:, :2]
    terms = np.column_stack([np.ones(len(angles)), angles])
    explained, *_ = np.linalg.lstsq(terms, codes, rcond=None)
    assert np.abs(terms @ explained).max() < 1e-4


def test_runs_start_from_the_images_or_from_noise(cache, tiny):
    described, mesh = object_class("cars"), device_mesh(1)
    for initial, spread in (("images", 0.15), ("noise", 0.01)):
        recipe = tiny.with_values(initial_codes=initial)
        state = set_up(recipe, described, cache, 0, Machine(), mesh).initial_state()
        latents = np.asarray(state.latents)
        np.testing.assert_allclose(latents[:, :8].std(), spread, rtol=0.2)
        assert not latents[:, 8:].any()
        assert latents.shape[1] == recipe.field_config(BOUNDS).code_size


def test_objects_seen_from_all_around_have_no_local_features(cars, tiny, tmp_path):
    truth, described = cars / "truth.h5", object_class("cars")
    around = effective_recipe(tiny, described, truth, masks=truth)
    assert (around.initial_codes, around.field_config(BOUNDS).code_size) == ("noise", 8)
    frontal = tmp_path / "cameras.h5"
    shutil.copyfile(truth, frontal)
    with edited(frontal) as file:
        count = len(file["cam_to_world"])
        file["cam_to_world"][:] = turned_camera(np.linspace(-40, 40, count), 0.0, 4.0)
    ahead = effective_recipe(tiny, described, frontal, masks=truth)
    assert (ahead.initial_codes, ahead.field_config(BOUNDS).code_size) == (
        "images",
        8 + 3 * 4 * 4 * 2 + 4 * 4 * 2,
    )


def test_only_the_masks_of_a_segmenter_are_sharpened(cars, tiny, tmp_path):
    truth, described = cars / "truth.h5", object_class("cars")
    segmented = tmp_path / "masks.h5"
    shutil.copyfile(truth, segmented)
    with edited(segmented) as file:
        file.attrs["nerfgen_schema"] = "masks/1"
    for masks, margin in ((segmented, 0.1), (truth, 0.0), (None, 0.0)):
        recipe = effective_recipe(tiny, described, truth, masks=masks)
        assert (recipe.mask_margin, recipe.lambda_opaque) == (margin, margin)
        assert recipe.lambda_mask == (1.0 if masks else 0.0)


def test_cameras_that_stay_are_not_tied(cars, tiny):
    """However it is said that they stay, the recipe is the same."""
    truth, described = cars / "truth.h5", object_class("cars")
    for rate, refine in ((0.0, True), (0.0, False), (1e-3, False), (1e-3, True)):
        given = tiny.with_values(camera_learning_rate=rate, lambda_camera=50.0)
        recipe = effective_recipe(given, described, truth, masks=truth, refine_cameras=refine)
        moving = refine and rate > 0
        assert (recipe.camera_learning_rate > 0, recipe.lambda_camera > 0) == (moving, moving)


@pytest.mark.slow
def test_cameras_are_tied_to_the_projections_of_their_keypoints(tiny):
    recipe = tiny.with_values(
        camera_learning_rate=1e-3, camera_start=0.0, pose_fraction=0.0, lambda_camera=1.0
    )
    rows, batch = table_rows([str(image) for image in range(recipe.images_per_batch)]), batch_of(recipe)
    points = np.random.default_rng(1).normal(size=(9, 3)) * 0.4
    unknowns = ImageUnknowns(
        jnp.full((recipe.images_per_batch, 6), 0.02),
        jnp.zeros((recipe.images_per_batch, recipe.field_config(BOUNDS).code_size)),
    )
    state = initial_state(recipe, BOUNDS, rows, 0, np.ones((OCCUPANCY_SIZE,) * 3, np.float32))
    losses = {}
    trainable = jnp.ones(recipe.images_per_batch, bool)
    keys = jax.random.split(jax.random.key(0), recipe.images_per_batch)
    for weight in (0.0, 1.0):
        plan = plan_of(recipe.with_values(lambda_camera=weight), rows, points)

        def loss(some, plan=plan):
            given = batch, trainable, state.sampling_occupancy, keys, jnp.float32(0)
            return pass_loss(plan, state.networks, some, *given)[0]

        losses[weight] = jax.jit(jax.value_and_grad(loss))(unknowns)
    moved = corrected_cameras(batch.cam_to_world, unknowns.cameras, jnp.zeros(6))
    expected = (
        keypoint_displacement(points, batch.intrinsics, batch.cam_to_world, moved).mean() / recipe.size**2
    )
    assert losses[1.0][0] - losses[0.0][0] == pytest.approx(float(expected), rel=1e-2)
    pull = losses[1.0][1].cameras - losses[0.0][1].cameras
    assert (np.sum(pull * unknowns.cameras, axis=1) > 0).all(), "towards no correction"
