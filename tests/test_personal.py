"""Several images of one object: joint codes, the file of a person, and the commands that show it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from edited import edited

import nerfgen
from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.errors import InputError
from nerfgen.field import tunable_parameters
from nerfgen.geometry import turned_views, yaw_pitch_roll
from nerfgen.inversion import (
    FitSettings,
    PersonalSettings,
    PreparedImages,
    fit_latents,
    fit_one_object,
    personalise_prepared,
)
from nerfgen.model import PERSONAL_SCHEMA, Objects, find_objects, save_personal
from nerfgen.render import RenderSettings, render_views
from nerfgen.synth import SynthSettings, synthesize

DATA = Path(__file__).parent / "data"
STEPS = 60


@pytest.fixture(scope="module")
def latent(model):
    """A car that is no row of the table."""
    return (0.6 * model.latents[3] + 0.4 * model.latents[7]).astype(np.float32)


@pytest.fixture(scope="module")
def views(model, cars, latent):
    """It, as six images."""
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", model.size)
    six = framed.subset(np.arange(6))
    seen = render_views(
        model, np.tile(latent, (6, 1)), six.raster_intrinsics, six.cam_to_world, model.size, samples=64
    )
    mask = np.round(255 * seen.opacity).astype(np.uint8)
    return replace(six, rgb=seen.rgb, mask=mask, valid=np.ones_like(six.valid))


def from_new_sides(model, latents):
    cameras = turned_views(np.arange(0.0, 360, 45), np.full(8, 20.0), model.distance, 24)
    return [render_views(model, np.tile(each, (8, 1)), *cameras, 24).foreground for each in latents]


def test_images_from_many_sides_tell_more_of_an_object_than_one(model, views, latent):
    alone = fit_latents(model, views, steps=STEPS)
    together = fit_one_object(model, views, steps=STEPS)
    truth, joint, *single = from_new_sides(model, [latent, together.latent, *alone.latents])
    errors = [float(np.mean((each - truth) ** 2)) for each in (joint, *single)]
    assert errors[0] < 0.6 * np.mean(errors[1:])
    assert (together.fitted.iterations == 2 * STEPS).all()
    again = fit_one_object(model, views, steps=STEPS)
    np.testing.assert_array_equal(again.latent, together.latent)


def test_the_spread_bounds_how_codes_of_images_differ(model, views):
    one = fit_one_object(model, views, steps=STEPS, spread=0.0)
    np.testing.assert_allclose(one.fitted.latents, np.tile(one.latent, (6, 1)), atol=1e-6)
    away = []
    for spread in (0.05, 1.0):
        found = fit_one_object(model, views, steps=STEPS, spread=spread)
        coordinates = model.principal.coefficients(
            found.fitted.latents - found.latent + model.latents.mean(0)
        )
        away.append(np.abs(coordinates).mean())
    assert 0 < away[0] < 0.2 * away[1]
    with pytest.raises(InputError, match="`spread` is from 0 to 1"):
        fit_one_object(model, views, spread=1.5)


def test_images_that_cannot_be_fitted_are_left_out(model, views, monkeypatch):
    from nerfgen.inversion.latent_fitting import FitTask

    fit = FitTask.fit

    def two_fail(self, start, progress):
        found, converged, iterations = fit(self, start, progress)
        converged[[1, 4]] = False
        return found, converged, iterations

    monkeypatch.setattr(FitTask, "fit", two_fail)
    found = fit_one_object(model, views, steps=STEPS)
    rest = fit_one_object(model, views, steps=STEPS)
    assert found.fitted.converged.tolist() == [True, False, True, True, False, True]
    np.testing.assert_array_equal(found.latent, rest.latent)
    np.testing.assert_allclose(found.fitted.latents[1], found.latent, atol=1e-6)
    np.testing.assert_array_equal(found.fitted.cam_to_world[4], views.cam_to_world[4])
    monkeypatch.setattr(FitTask, "fit", lambda self, *_: (self.mean(), np.zeros(6, bool), np.full(6, STEPS)))
    with pytest.raises(InputError, match="none of the images could be fitted"):
        fit_one_object(model, views, steps=STEPS)


@pytest.fixture(scope="module")
def odd(views):
    """The same images with red and blue exchanged, which no code can express."""
    return replace(views, rgb=np.ascontiguousarray(views.rgb[..., ::-1]))


@pytest.fixture(scope="module")
def person(model, odd):
    """The object and its images, and an image of nobody."""
    prepared = PreparedImages(
        [*odd.images[:2], "nobody.jpg", *odd.images[2:]],
        ["ok", "ok", "no_object", "ok", "ok", "ok", "ok"],
        odd,
        np.array([0, 1, 3, 4, 5, 6]),
        np.full((6, len(model.canonical), 2), np.nan),
    )
    return personalise_prepared(
        model, prepared, "anna", PersonalSettings(), FitSettings(steps=STEPS, tune_steps=30)
    )


@pytest.fixture
def saved(person, trained, model, tmp_path):
    stage = storage.Stage(
        tmp_path / "anna.h5", PERSONAL_SCHEMA, model.object_class, inputs=[storage.file_record(trained)]
    )
    save_personal(stage, person)
    return stage.output


def test_a_person_comes_before_their_images(person, views):
    assert person.names == ["anna", *views.images[:2], "nobody.jpg", *views.images[2:]]
    assert person.status == ["ok", "ok", "ok", "no_object", "ok", "ok", "ok", "ok"]
    poses = person.cameras.cam_to_world
    turns = np.abs(yaw_pitch_roll(views.cam_to_world)[:, :2]).sum(1)
    np.testing.assert_array_equal(poses[0], views.cam_to_world[turns.argmin()])
    usable = np.array([1, 2, 4, 5, 6, 7])
    np.testing.assert_allclose(
        person.extra["fit_psnr"][0], person.extra["fit_psnr"][usable].mean(), rtol=1e-6
    )
    assert np.isnan(person.extra["fit_psnr"][3])
    assert sorted(person.images) == usable.tolist()


def test_all_objects_of_the_file_have_the_one_change(person, saved, trained, model):
    digest = storage.file_digest(trained)[1]
    back = find_objects(model, digest, [f"{saved}:0,2,3"])
    assert back.names == [person.names[number] for number in (0, 2, 3)]
    np.testing.assert_array_equal(back.latents, person.latents[[0, 2, 3]])
    assert len({id(delta) for delta in back.tuned.values()}) == 1
    assert sorted(back.tuned) == [0, 1, 2]
    some = nerfgen.load(trained)
    cameras = type(back.cameras)(*(part[:1] for part in back.cameras))
    shown = some.render(back.some([0]), cameras, RenderSettings(size=model.size, antialias=1)).rgb[0, 0]
    tuned, plain = (
        render_views(
            each, back.latents[:1], cameras.matrices(model.size), cameras.cam_to_world, model.size
        ).rgb[0]
        for each in (model.tuned(person.tuned[0]), model)
    )
    np.testing.assert_array_equal(shown, tuned)
    assert np.abs(plain.astype(int) - shown).max() > 0
    with h5py.File(saved) as file:
        assert file["delta"].keys() <= tunable_parameters(model.parameters).keys()
        assert sorted(file["photographs"], key=int) == ["1", "2", "4", "5", "6", "7"]


def test_tuning_brings_all_images_nearer(model, person, odd):
    """Compared over the images with codes and cameras as they are."""
    usable = [1, 2, 4, 5, 6, 7]
    plain = render_views(model, person.latents[usable], odd.raster_intrinsics, odd.cam_to_world, model.size)
    before = -10 * np.log10(np.mean((plain.rgb / 255.0 - odd.rgb / 255.0) ** 2, axis=(1, 2, 3)))
    assert person.extra["fit_psnr"][0] > before.mean()


def test_commands_take_the_file(saved, trained, call, tmp_path, run):
    output = tmp_path / "views.h5"
    call("render", trained, "--codes", f"{saved}:0", "--yaw", "0,30", "--size", 12, "-o", output, "-q")
    with h5py.File(output) as file:
        assert storage.strings(file["name"]) == ["anna"]
        assert file["rgb"].shape[:2] == (1, 3)
        assert set(file["tuned"]) == {"0"}
    call("export", trained, "--codes", f"{saved}:0", "--resolution", 12, "-o", tmp_path / "anna.glb", "-q")
    assert (tmp_path / "anna.glb").read_bytes().startswith(b"glTF")
    assert run("verify", saved).code == 0


def test_files_of_other_models_and_damaged_changes_are_refused(saved, trained, model, tmp_path):
    digest = storage.file_digest(trained)[1]
    with pytest.raises(InputError, match="another model"):
        find_objects(model, "0" * 64, [str(saved)])
    with edited(saved) as file:
        layer = next(iter(file["delta"].values()))
        name = next(iter(layer))
        inner = layer[name]
        array = inner if isinstance(inner, h5py.Dataset) else next(iter(inner.values()))
        array[...] = np.nan
    with pytest.raises(InputError, match=r"delta/.* has numbers that are not finite"):
        find_objects(model, digest, [f"{saved}:1"])


def test_some_objects_keep_what_belongs_to_them(person):
    some = person.some([7, 0])
    assert some.names == [person.names[7], "anna"]
    assert set(some.images) == {0}
    np.testing.assert_array_equal(some.images[0], person.images[7])
    np.testing.assert_array_equal(some.extra["fit_psnr"], person.extra["fit_psnr"][[7, 0]])
    assert isinstance(some, Objects)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Four portraits of one synthetic head."""
    folder = tmp_path_factory.mktemp("album")
    settings = SynthSettings(num_images=1, size=96, seed=11, views=0, heldout_objects=0, srn=True)
    synthesize("heads", folder, replace(settings, views_per_instance=4))
    return folder / "000000" / "rgb"


@pytest.mark.mediapipe
@pytest.mark.slow
def test_the_command_learns_a_person(album, run, tmp_path):
    model = tmp_path / "model.h5"
    model.write_bytes((DATA / "model_planes.h5").read_bytes())
    (album / "notes.png").write_bytes(b"no image")
    words = [
        "personalise",
        model,
        album,
        "--name",
        "anna",
        "--fit-steps",
        30,
        "--tune-steps",
        5,
        "--workers",
        1,
    ]
    done = run(*words, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["name"], found["images"], found["fitted"]) == ("anna", 5, 4), found["statuses"]
    assert found["output"] == str(tmp_path / "anna.personal.h5")
    assert found["statuses"]["unreadable"] == 1
    again = run(*words)
    assert "kept" in again.err + again.out
    shown = run("info", found["output"], "--command")
    assert "--name anna --fit-steps 30 --tune-steps 5" in shown.out
    strict = run(*words, "--strict")
    assert strict.code == 3
    other = run(*words, "--spread", 0.1)
    assert other.code == 2
    assert "spread" in other.err
    assert run(*words, "--spread", 0.0, "--no-tune", "--overwrite").code == 0
    with h5py.File(found["output"]) as file:
        assert "delta" not in file
        latents, status = file["latents"][:], storage.strings(file["status"])
    usable = storage.usable(status)
    np.testing.assert_allclose(latents[usable], np.tile(latents[0], (5, 1)), atol=1e-5)
