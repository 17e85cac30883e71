"""Going on from a trained model: new rows for new photographs, and the old ones kept."""

from __future__ import annotations

import shutil
from dataclasses import replace

import h5py
import jax
import numpy as np
import pytest

from nerfgen import storage
from nerfgen.data import SamplingPlan, load_framed, sample_indices
from nerfgen.errors import InputError
from nerfgen.geometry import window_intrinsics
from nerfgen.metric import psnr
from nerfgen.model import load_model
from nerfgen.render import render_views
from nerfgen.synth import SynthSettings, synthesize
from nerfgen.train import Machine, TrainingFiles, continued_recipe, load_base_model, train

STEPS = 120


@pytest.fixture(scope="module")
def garage(tmp_path_factory):
    """Eight more cars, with names that no other has: the folder, with cameras.h5 and masks.h5."""
    folder = tmp_path_factory.mktemp("garage")
    truth = synthesize("cars", folder, SynthSettings(num_images=8, size=32, views=0, seed=11))
    names = [f"own/{index}.png" for index in range(8)]
    (folder / "own").mkdir()
    for index, name in enumerate(names):
        shutil.move(folder / f"{index:06d}.png", folder / name)
    columns = {
        "cameras": ("status", "image_size", "intrinsics", "cam_to_world", "window"),
        "masks": ("status", "image_size", "mask_window", "mask"),
    }
    with h5py.File(truth) as source:
        for kind, wanted in columns.items():
            with storage.Stage(folder / f"{kind}.h5", f"{kind}/1", "cars").create() as file:
                storage.put(file, "image", names)
                for name in wanted:
                    values = storage.strings(source[name]) if name == "status" else source[name][:]
                    storage.put(file, name, values)
    truth.unlink()
    return folder


def files(folder, output):
    return TrainingFiles(folder, folder / "cameras.h5", folder / "masks.h5", output)


@pytest.fixture(scope="module")
def start(trained):
    return load_base_model(trained, renderings=40)


@pytest.fixture(scope="module")
def recipe(model):
    return replace(continued_recipe(model), steps=STEPS)


@pytest.fixture(scope="module")
def personal(garage, start, recipe, tmp_path_factory):
    """The model file after going on with the garage, and the summary."""
    output = tmp_path_factory.mktemp("personal") / "model.h5"
    summary = train(
        files(garage, output), recipe, object_class="cars", base=start, checkpoint_minutes=0, keep=1000
    )
    return output, summary


def seen(model, rows):
    """Rows from their own cameras."""
    matrices = window_intrinsics(model.intrinsics[rows], model.window[rows], model.size)
    return render_views(model, model.latents[rows], matrices, model.cam_to_world[rows], model.size).rgb / 255


def test_old_rows_are_kept_and_new_ones_follow(model, garage, personal):
    output, summary = personal
    after = load_model(output)
    assert (summary["images"], summary["rows"]) == (8, 48)
    assert after.images == [*model.images, *(f"own/{index}.png" for index in range(8))]
    np.testing.assert_array_equal(after.latents[:40], model.latents)
    np.testing.assert_array_equal(after.cam_to_world[:40], model.cam_to_world)
    np.testing.assert_array_equal(after.window[:40], model.window)
    with h5py.File(garage / "cameras.h5") as file:
        np.testing.assert_allclose(after.cam_to_world[40:], file["cam_to_world"][:], atol=1e-6)
    assert np.abs(after.latents[40:] - after.latents[40:].mean(0)).max() > 0.01, "they were learned"


def test_new_photographs_are_learned_and_old_objects_stay(model, garage, start, recipe, personal, tmp_path):
    after = load_model(personal[0])
    framed = load_framed(garage, garage / "cameras.h5", garage / "masks.h5", model.size)
    mean = replace(after, latents=np.tile(model.latents.mean(0), (48, 1)), parameters=model.parameters)
    rows = np.arange(40, 48)
    learned, guessed = (
        np.mean([psnr(one, two / 255) for one, two in zip(seen(some, rows), framed.rgb, strict=True)])
        for some in (after, mean)
    )
    assert learned > guessed + 1.5
    # The same run with a picture of one object only, taken over and over, forgets the others.
    alone = replace(
        start,
        rows=start.rows[:1],
        render=lambda: start.renderings[:1],
        intrinsics=start.intrinsics[:1],
        cam_to_world=start.cam_to_world[:1],
    )
    train(files(garage, tmp_path / "model.h5"), recipe, object_class="cars", base=alone)
    before, old = seen(model, np.arange(40)), np.arange(40)
    kept, lost = (psnr(seen(load_model(path), old), before) for path in (personal[0], tmp_path / "model.h5"))
    assert kept > 24
    assert kept > lost + 1


@pytest.mark.slow
def test_where_pixels_are_kept_changes_nothing(garage, start, recipe, personal, tmp_path):
    output = tmp_path / "model.h5"
    train(files(garage, output), recipe, object_class="cars", base=start, machine=Machine(placement="disk"))
    assert output.read_bytes() == personal[0].read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_model(garage, start, recipe, personal, tmp_path):
    checkpoints = sorted(personal[0].parent.glob("model.checkpoint-*.h5"))
    assert len(checkpoints) > 2
    shutil.copy(checkpoints[1], tmp_path / checkpoints[1].name)
    output = tmp_path / "model.h5"
    train(files(garage, output), recipe, object_class="cars", base=start, resume=True)
    assert output.read_bytes() == personal[0].read_bytes()


@pytest.mark.slow
def test_other_pictures_are_not_taken_for_those_of_the_cache(garage, trained, recipe, tmp_path):
    """The first run leaves the framed pixels beside the photographs; a start with another seed shows other rows."""
    cache, few = Machine(cache=tmp_path / "pixels.h5"), replace(recipe, steps=2)
    made = {}
    for seed in (0, 1):
        output, other = tmp_path / f"{seed}.h5", load_base_model(trained, renderings=6, seed=seed)
        train(files(garage, output), few, object_class="cars", base=other, machine=cache)
        with h5py.File(cache.cache) as file:
            names = storage.strings(file["image"])
            raster = np.empty((recipe.size**2, 4), np.uint8)
            raster[file["order"][-1]] = file["pixels"][-1]
        assert names[-6:] == other.names
        np.testing.assert_array_equal(raster.reshape(other.renderings[-1].shape), other.renderings[-1])
        made[seed] = names
    assert made[0] != made[1]


def test_pictures_are_rendered_only_when_pixels_are_needed(garage, start, recipe, personal):
    """A finished run that is asked for again is kept without them."""

    def refuse():
        raise AssertionError("rendered for nothing")

    again = train(files(garage, personal[0]), recipe, object_class="cars", base=replace(start, render=refuse))
    assert again["kept"]


def test_half_of_a_batch_are_pictures_of_former_objects():
    images, _ = sample_indices(SamplingPlan(0, 50, 400, 2, 0.5, num_rehearsal=30), 3)
    images = np.asarray(images)
    assert np.count_nonzero(images >= 20) == 200
    assert set(images) == set(range(50))


def test_photographs_that_the_model_knows_are_left_out(cars, start, tiny, recipe, tmp_path):
    known = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "model.h5")
    with pytest.raises(InputError, match="known: 40"):
        train(known, recipe, object_class="cars", base=start)


def test_another_photograph_of_the_same_name_is_told(start, recipe, tmp_path):
    folder = tmp_path / "cars"
    truth = synthesize("cars", folder, SynthSettings(num_images=2, size=32, views=0, seed=12))
    others = TrainingFiles(folder, truth, truth, tmp_path / "model.h5")
    with pytest.raises(InputError, match=r"000000.png has the name of another image"):
        train(others, recipe, object_class="cars", base=start)


@pytest.mark.slow
def test_the_command_goes_on_from_a_model(run, garage, trained, tmp_path):
    words = ["train", garage, "--init", trained, "-o", tmp_path / "model.h5", "--cache", tmp_path / "p.h5"]
    done = run(*words, "--steps", 3, "--rehearse", 4, "--no-preview", "--quiet")
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "model.h5") as file:
        assert len(file["image"]) == 48
        assert trained.name in file.attrs["inputs"]
    for more, told in (
        (["--preset", "fast"], "--preset and --init exclude each other"),
        (["--latent-size", "9"], "--latent-size is 8 in the model"),
        (["--class", "face"], "a model of class cars"),
    ):
        refused = run(*words, *more)
        assert refused.code == 2
        assert told in refused.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "learned"), [("foreground", "background"), ("background", "foreground")])
def test_a_frozen_network_stays_as_it_is(model, garage, start, recipe, personal, tmp_path, frozen, learned):
    output = tmp_path / "model.h5"
    train(files(garage, output), replace(recipe, freeze=frozen), object_class="cars", base=start)
    after = load_model(output)
    assert after.recipe.freeze == frozen
    same = jax.tree.map(np.array_equal, after.parameters, model.parameters)
    assert all(jax.tree.leaves(same[frozen]))
    assert not any(jax.tree.leaves(same[learned]))
    assert np.abs(after.latents[40:] - after.latents[40:].mean(0)).max() > 0.01, (
        "codes of new images are learned"
    )


def test_only_networks_of_a_model_can_be_frozen(run, garage, tiny_options):
    words = ["train", garage, *tiny_options, "--freeze", "background", "--steps", 2, "-o", garage / "x.h5"]
    done = run(*words)
    assert done.code == 2
    assert "--init" in done.err
    assert not (garage / "x.h5").exists()
