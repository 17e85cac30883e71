"""Model files of an earlier version: they load and render as in the version that wrote them, and fit new images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edited import edited

from nerfgen import storage
from nerfgen.data import FramedImages
from nerfgen.errors import InputError
from nerfgen.geometry import turned_views
from nerfgen.inversion import fit_latents, tune_networks
from nerfgen.mask import MaskSettings
from nerfgen.model import Preparation, load_model, save_model
from nerfgen.render import render_views

DATA = Path(__file__).parent / "data"
KINDS = ["planes", "mlp"]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """A framed image, what the version that wrote the models made of their first two rows, and fits of the image by the
    first version whose fits visit all pixels equally often."""
    with np.load(DATA / "model_expected.npz") as stored:
        return dict(stored)


def a_framed_image(expected: dict[str, np.ndarray]) -> FramedImages:
    names = ("rgb", "mask", "valid", "image_size", "intrinsics", "cam_to_world", "window")
    return FramedImages(
        images=["new.png"],
        **{name: expected[name] for name in names},
        canonical_index=np.zeros(0, np.int32),
        canonical=np.zeros((0, 3)),
        skipped={},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_an_earlier_version_render_as_before(kind, expected):
    model = load_model(DATA / f"model_{kind}.h5")
    assert model.config.kind == kind
    cameras = turned_views(np.array([-20.0, 20.0]), np.zeros(2), model.distance, 16)
    views = render_views(model, model.latents[:2], *cameras, 16)
    np.testing.assert_allclose(views.rgb.astype(int), expected[f"{kind}_rgb"], atol=1)
    np.testing.assert_allclose(views.opacity, expected[f"{kind}_opacity"], atol=1e-3)
    np.testing.assert_allclose(views.depth, expected[f"{kind}_depth"], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_an_earlier_version_fit_as_recorded(kind, expected):
    model, image = load_model(DATA / f"model_{kind}.h5"), a_framed_image(expected)
    fitted = fit_latents(model, image, steps=20)
    assert fitted.converged.all()
    np.testing.assert_allclose(fitted.psnr, expected[f"{kind}_psnr"], atol=0.05)
    np.testing.assert_allclose(fitted.latents, expected[f"{kind}_latents"], atol=1e-2)
    np.testing.assert_allclose(fitted.cam_to_world, expected[f"{kind}_cam_to_world"], atol=1e-3)
    tuned = tune_networks(model, image, fitted, steps=10)
    np.testing.assert_allclose(tuned.psnr, expected[f"{kind}_tuned_psnr"], atol=0.1)


@pytest.fixture
def changed(tmp_path):
    """Writes a model file whose recipe has other fields."""

    def write(**fields: object) -> Path:
        path = tmp_path / "model.h5"
        shutil.copyfile(DATA / "model_planes.h5", path)
        with edited(path) as file:
            file.attrs["preset"] = json.dumps(json.loads(file.attrs["preset"]) | fields)
        return path

    return write


def test_a_recipe_of_a_later_version_is_one_clear_line(changed):
    with pytest.raises(InputError, match=r"model\.h5: the recipe has a field 'gamma'.*; update nerfgen"):
        load_model(changed(gamma=2.0))


def test_values_that_are_now_refused_are_still_read(changed):
    assert load_model(changed(adam_b2=1.0)).recipe.adam_b2 == 1.0


def test_values_are_named_as_this_version_names_them(changed):
    recipe = load_model(changed()).recipe
    assert recipe.sampler == "occupancy"
    assert recipe.pose_fraction == 0.2


def test_a_file_of_a_later_version_is_one_clear_line(changed):
    path = changed()
    with edited(path) as file:
        file.attrs["model_version"] = 99
    with pytest.raises(InputError, match=r"model\.h5 was written by a newer version of nerfgen"):
        load_model(path)


def test_models_record_how_their_images_were_prepared(changed, tmp_path):
    model = load_model(changed())
    assert model.preparation == Preparation()  # files of earlier versions do not say
    settings = MaskSettings("color", background="#ffffff")
    for preparation in (Preparation(depth_weight=0.5, masks=settings), Preparation(masks=None)):
        stage = storage.Stage(tmp_path / "again.h5", "model/1", model.object_class)
        save_model(stage, replace(model, preparation=preparation), log=np.zeros((1, 2)), log_names=["loss"])
        assert load_model(stage.output).preparation == preparation
