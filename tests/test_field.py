"""Networks: the split concatenation, encodings, feature planes, gradients, model files."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from edited import edited

from nerfgen import storage
from nerfgen.camera.solve import double_precision
from nerfgen.errors import InputError
from nerfgen.field import FieldConfig, GenerativeField, plane_smoothness, positional_encoding
from nerfgen.field.mlp import ConcatenatedField
from nerfgen.field.planes import PLANE_AXES, PlanesField, sample_planes
from nerfgen.geometry import corrected_cameras, intrinsic_matrix, pixel_rays, turned_camera
from nerfgen.model import PRESETS, Model, load_model, save_model
from nerfgen.objectclass import object_class
from nerfgen.volume import volume_render
from nerfgen.volume.losses import training_losses

SIZES = {
    "latent_size": 5,
    "width": 8,
    "depth": 3,
    "frequencies": 3,
    "plane_size": 6,
    "plane_channels": 3,
    "mirror": True,
    "odd_channels": 1,
    "background_width": 6,
    "background_depth": 2,
    "density_scale": 4.0,
    "bounds": (1.1, 1.1, 1.1),
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(scope="module", params=["mlp", "planes"])
def network(request):
    """(module, variables) of a small model of either kind, with all parameters away from zero."""
    module = GenerativeField(FieldConfig(kind=request.param, **SIZES))
    point = jnp.zeros((1, 1, 3))
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 5)), point, point)

    def waved(value):
        return jnp.asarray(value + 0.05 * np.cos(np.arange(value.size)).reshape(value.shape), jnp.float32)

    return module, jax.tree.map(waved, jax.tree.map(np.asarray, variables))


def test_encoding_is_that_of_the_paper(rng):
    points = rng.uniform(-1, 1, (4, 3))
    encoded = np.asarray(positional_encoding(jnp.asarray(points), 6))
    assert encoded.shape == (4, 3 + 6 * 6)
    expected = [
        function(2.0**octave * np.pi * points[:, axis])
        for function in (np.sin, np.cos)
        for octave in range(6)
        for axis in range(3)
    ]
    np.testing.assert_array_equal(encoded[:, :3], points.astype(np.float32))
    np.testing.assert_allclose(encoded[:, 3:], np.stack(expected, axis=-1), atol=2e-5)


def naive_concatenation(parameters, latents, points, frequencies, depth):
    """MLP(concat(gamma(x), z)) with a skip half-way, as METHOD.md writes it, from the flax parameters."""
    skip = depth // 2
    encoded = positional_encoding(points, frequencies)
    tiled = jnp.broadcast_to(latents[:, None], (*points.shape[:2], latents.shape[1]))
    seen = jnp.concatenate([encoded, tiled], axis=-1)

    def joint(layer):
        return jnp.concatenate(
            [parameters[f"point_{layer}"]["kernel"], parameters[f"latent_{layer}"]["kernel"]]
        )

    hidden = jax.nn.relu(seen @ joint(0) + parameters["point_0"]["bias"][None, None])
    for layer in range(1, depth):
        given, matrix, bias = (
            hidden,
            parameters[f"hidden_{layer}"]["kernel"],
            parameters[f"hidden_{layer}"]["bias"],
        )
        if layer == skip:
            given = jnp.concatenate([hidden, seen], axis=-1)
            matrix = jnp.concatenate([matrix, joint(skip)])
            bias = bias + parameters[f"point_{skip}"]["bias"]
        hidden = jax.nn.relu(given @ matrix + bias[None, None])
    return hidden @ parameters["output"]["kernel"] + parameters["output"]["bias"][None, None]


def test_the_split_network_is_the_concatenation(rng):
    module = ConcatenatedField(width=16, depth=4, frequencies=4)
    with double_precision():
        latents, points = jnp.asarray(rng.normal(size=(3, 7))), jnp.asarray(rng.uniform(-1, 1, (3, 11, 3)))
        variables = jax.jit(partial(module.init, method=_both))(jax.random.key(1), latents, points)
        variables = jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), variables)

        def split(parameters, latents, points):
            return module.apply({"params": parameters}, latents, points, method=_both)

        def naive(parameters, latents, points):
            return naive_concatenation(parameters, latents, points, 4, 4)

        given = (variables["params"], latents, points)
        np.testing.assert_allclose(split(*given), naive(*given), rtol=1e-10)
        for one, other in zip(*(_gradients(f, given) for f in (split, naive)), strict=True):
            assert float(jnp.abs(other).max()) > 0
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


def _both(module, latents, points):
    return module(module.condition(latents), points)


def _gradients(function, given):
    shape = jax.eval_shape(function, *given).shape
    weights = np.cos(np.arange(np.prod(shape))).reshape(shape)
    return jax.tree.leaves(
        jax.jit(jax.grad(lambda *a: jnp.sum(weights * function(*a)), argnums=(0, 1, 2)))(*given)
    )


def test_planes_are_sampled_bilinearly(rng):
    planes = rng.normal(size=(2, 3, 9, 9, 4)).astype(np.float32)
    points = rng.uniform(-1, 1, (2, 200, 3)).astype(np.float32)
    points[0, :3] = [[-1, 1, 0.25], [1, -1, 0.25], [0.25, 0.25, 1]]
    found = np.asarray(sample_planes(jnp.asarray(planes), jnp.asarray(points)))
    for image in range(2):
        for channel in range(4):
            expected = sum(
                scipy.ndimage.map_coordinates(
                    planes[image, plane, :, :, channel], (points[image][:, list(axes)].T + 1) * 4, order=1
                )
                for plane, axes in enumerate(PLANE_AXES)
            )
            np.testing.assert_allclose(found[image, :, channel], expected, atol=1e-5)


def test_gradients_of_sampled_planes_are_those_of_the_sum_written_out(rng):
    planes, points = rng.normal(size=(2, 3, 5, 5, 3)), rng.uniform(-1.3, 1.3, (2, 40, 3))
    weights = rng.normal(size=(2, 40, 3))

    def written_out(planes, points):
        total = 0.0
        for plane, axes in enumerate(PLANE_AXES):
            at = (jnp.clip(points[..., axes], -1, 1) + 1) * 2
            low = jnp.clip(jnp.floor(at), 0, 3).astype(int)
            share = at - low
            for corner in np.ndindex(2, 2):
                place = low + np.array(corner)[None, None]
                weight = jnp.prod(jnp.where(np.array(corner), share, 1 - share), axis=-1)
                values = planes[jnp.arange(2)[:, None], plane, place[..., 0], place[..., 1]]
                total = total + values * weight[..., None]
        return jnp.sum(weights * total)

    with double_precision():
        given = jnp.asarray(planes), jnp.asarray(points)
        ours = jax.grad(lambda *a: jnp.sum(weights * sample_planes(*a)), argnums=(0, 1))(*given)
        for one, other in zip(ours, jax.grad(written_out, argnums=(0, 1))(*given), strict=True):
            assert float(jnp.abs(other).max()) > 0
            np.testing.assert_allclose(one, other, atol=1e-10)


def test_planes_continue_with_their_edge_outside(rng):
    planes = jnp.asarray(rng.normal(size=(1, 3, 5, 5, 2)), jnp.float32)
    far = sample_planes(planes, jnp.array([[[1.0, 0.3, 0.2], [7.0, 0.3, 0.2]]]))
    np.testing.assert_allclose(far[0, 0], far[0, 1], rtol=1e-6)


def test_mirrored_planes_are_even_but_for_the_odd_channels(rng):
    points = jnp.asarray(rng.uniform(-1, 1, (1, 30, 3)), jnp.float32)
    flipped = points * jnp.array([[[-1.0, 1.0, 1.0]]])
    latents = jnp.asarray(rng.normal(size=(1, 6)), jnp.float32)
    for odd, same in ((0, True), (1, False)):
        module = PlanesField(plane_size=5, channels=2, width=4, depth=1, mirror=True, odd_channels=odd)
        shared = module.init(jax.random.key(0), latents, points, method=_both)
        one, other = (module.apply(shared, latents, some, method=_both) for some in (points, flipped))
        assert np.allclose(one, other, atol=1e-6) == same
        # On the plane of symmetry the two sides meet.
        middle = points * jnp.array([[[1e-7, 1.0, 1.0]]])
        sides = middle, middle * jnp.array([[[-1.0, 1.0, 1.0]]])
        near = (module.apply(shared, latents, some, method=_both) for some in sides)
        np.testing.assert_allclose(*near, atol=1e-5)


def test_planes_are_linear_in_the_code(rng):
    module = PlanesField(plane_size=5, channels=2, width=4, depth=1)
    first, second = rng.normal(size=(2, 1, 6)).astype(np.float32)
    shared = jax.jit(partial(module.init, method=_both))(jax.random.key(0), first, jnp.zeros((1, 1, 3)))

    def planes(code):
        return np.asarray(module.apply(shared, jnp.asarray(code, jnp.float32), method="condition")["planes"])

    np.testing.assert_allclose(
        planes(0.3 * first + 0.7 * second), 0.3 * planes(first) + 0.7 * planes(second), atol=1e-5
    )
    assert np.abs(planes(first) - planes(second)).max() > 0.1


def test_local_features_are_added_to_the_planes_where_they_are(rng):
    """Each plane gains its grid, mixed and interpolated linearly between cells whose corners are the plane's."""
    module = PlanesField(plane_size=9, channels=2, width=4, depth=1, local_size=3, local_channels=2)
    latents, local = rng.normal(size=(1, 5)), rng.normal(size=(1, 3, 3, 3, 2))
    given = jnp.asarray(latents, jnp.float32), jnp.asarray(local.reshape(1, -1), jnp.float32)
    shared = module.init(jax.random.key(0), *given, method="condition")

    def planes(*arguments):
        return np.asarray(module.apply(shared, *arguments, method="condition")["planes"])

    added = (planes(*given) - planes(given[0], 0 * given[1]))[0]
    mixed = np.einsum("pijf,pfc->pijc", local[0], shared["params"]["latent_mixing"])
    at = np.linspace(0, 2, 9)
    expected = scipy.ndimage.map_coordinates(
        mixed, np.meshgrid(np.arange(3), at, at, np.arange(2), indexing="ij"), order=1
    )
    np.testing.assert_allclose(added, expected, atol=1e-5)
    assert np.abs(added).max() > 0.05


def test_backgrounds_differ_where_their_local_features_do(rng):
    config = FieldConfig(kind="mlp", background_cells=5, background_channels=2, **SIZES)
    module = GenerativeField(config)
    assert config.code_size == 5 + 5 * 5 * 2
    slopes = np.stack(np.meshgrid([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1]), axis=-1).reshape(1, 25, 2)
    directions = np.concatenate([slopes, np.full((1, 25, 1), -1.0)], axis=-1)
    directions = jnp.asarray(directions / np.linalg.norm(directions, axis=-1, keepdims=True), jnp.float32)
    code, point = jnp.zeros((1, config.code_size)), jnp.zeros((1, 1, 3))
    variables = jax.jit(module.init)(jax.random.key(3), code, point, point)
    color = jax.jit(partial(module.apply, method="background"))
    # The grid's corners lie at these slopes: one cell's features change one direction.
    before, after = (color(variables, some, directions) for some in (code, code.at[0, 5 + 2 * 7].set(3.0)))
    change = np.abs(np.asarray(after - before)).max(-1)[0]
    assert np.flatnonzero(change > 1e-6).size == 1
    assert change.max() > 1e-3


def test_plane_smoothness_is_that_of_the_planes_of_all_objects(rng):
    """Of codes with every combination of signs, which are independent numbers of mean 0, from the planes themselves."""
    module, size = PlanesField(plane_size=5, channels=2, width=4, depth=1), 5
    spread = np.array([0.5, 1.5, 0.1])
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
    latents = jnp.asarray(signs * spread, jnp.float32)
    variables = jax.jit(partial(module.init, method=_both))(
        jax.random.key(1), latents, jnp.zeros((len(latents), 1, 3))
    )
    layer = variables["params"]["planes"]
    planes = np.asarray(module.apply(variables, latents, method="condition")["planes"])
    expected = 0.5 * sum(np.mean(np.diff(planes, axis=axis) ** 2) for axis in (2, 3))
    assert plane_smoothness(layer, latents, size) == pytest.approx(expected, rel=1e-5)
    # The scale of codes is no matter, if planes stay the same; nor are codes pulled at.
    scaled = {"bias": layer["bias"], "kernel": layer["kernel"] / 7}
    assert plane_smoothness(scaled, 7 * latents, size) == pytest.approx(expected, rel=1e-5)
    assert not np.asarray(jax.grad(plane_smoothness, argnums=1)(layer, latents, size)).any()
    even = jax.tree.map(jnp.ones_like, layer)
    assert plane_smoothness(even, latents, size) == 0


def test_each_plane_spans_its_two_coordinates(rng):
    """With one plane non-zero, moving along the third coordinate changes nothing."""
    module = PlanesField(plane_size=5, channels=2, width=6, depth=1)
    latents, points = jnp.zeros((1, 3)), jnp.asarray(rng.uniform(-0.9, 0.9, (1, 20, 3)), jnp.float32)
    variables = jax.jit(partial(module.init, method=_both))(jax.random.key(2), latents, points)
    apply = jax.jit(module.apply)
    for plane, axes in enumerate(PLANE_AXES):
        condition = module.apply(variables, latents, method="condition")
        condition["planes"] = (
            jnp.zeros_like(condition["planes"]).at[:, plane].set(condition["planes"][:, plane])
        )
        before = apply(variables, condition, points)
        for axis in range(3):
            moved = points.at[..., axis].multiply(-0.5)
            change = float(jnp.abs(apply(variables, condition, moved) - before).max())
            assert (change > 1e-3) == (axis in axes)


def test_density_is_positive_inside_and_zero_outside_the_bounds(network, rng):
    module, variables = network
    latents = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1.6, 1.6, (2, 300, 3)), jnp.float32)
    condition = module.apply(variables, latents, method="condition")
    density, color = module.apply(variables, condition, points, method="foreground")
    inside = np.asarray((jnp.abs(points) <= 1.1).all(-1))
    assert 20 < inside.sum() < 580
    assert (np.asarray(density)[inside] > 0).all()
    assert (np.asarray(density)[~inside] == 0).all()
    assert ((np.asarray(color) > 0) & (np.asarray(color) < 1)).all()


def test_every_image_sees_its_own_code(network, rng):
    module, variables = network
    latents = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1, 1, (3, 10, 3)), jnp.float32)
    directions = points / jnp.linalg.norm(points, axis=-1, keepdims=True)
    apply = jax.jit(module.apply)
    together = apply(variables, latents, points, directions)
    for image in range(3):
        alone = apply(
            variables, latents[image : image + 1], points[image : image + 1], directions[image : image + 1]
        )
        for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one[0], other[image], rtol=1e-4, atol=1e-5)
    density, background = together[0][0], together[1]
    other = apply(variables, latents[::-1], points, directions)
    assert float(jnp.abs(other[0][0] - density)[0].max()) > 1e-3
    assert float(jnp.abs(other[1] - background)[0].max()) > 1e-4


def test_gradients_of_the_training_loss_agree_with_finite_differences(network, rng):
    """With respect to weights, latents and camera corrections, in double precision."""
    module, variables = network
    with double_precision():
        matrix = intrinsic_matrix(np.full(2, 10.0), np.full((2, 2), 4.0))
        poses = jnp.asarray(turned_camera(np.array([20.0, -35]), 5, 3.0))
        pixels, target = jnp.asarray(rng.uniform(0, 8, (2, 6, 2))), jnp.asarray(rng.uniform(size=(2, 6, 3)))
        mask = jnp.asarray(rng.uniform(size=(2, 6)))
        parameters = {
            "field": jax.tree.map(lambda value: jnp.asarray(value, jnp.float64), variables["params"]),
            "latents": jnp.asarray(rng.normal(0, 0.3, (2, 5))),
            "cameras": jnp.asarray(rng.normal(0, 0.02, (2, 6))),
        }
        flat, unflatten = jax.flatten_util.ravel_pytree(parameters)

        # The samples stay at the distances of the unmoved cameras, as gradients take them to.
        def loss(flat):
            parameters = unflatten(flat)
            corrections = parameters["cameras"]
            moved = corrected_cameras(poses, corrections, corrections.mean(0))
            origins, directions = pixel_rays(pixels, jnp.asarray(matrix), moved)
            shared = {"params": parameters["field"]}
            condition = module.apply(shared, parameters["latents"], method="condition")
            rays = volume_render(
                lambda points: module.apply(shared, condition, points, method="foreground"),
                origins,
                directions,
                half=1.1,
                count=12,
            )
            background = module.apply(shared, parameters["latents"], directions, method="background")
            terms = training_losses(rays, background, target, mask)
            return terms["rgb"] + terms["mask"] + 0.1 * terms["hard"]

        gradient = np.asarray(jax.jit(jax.grad(loss))(flat))
        assert np.isfinite(gradient).all()
        places = unflatten(np.arange(len(flat), dtype=float))
        cameras, latents = (np.asarray(places[name], int).ravel() for name in ("cameras", "latents"))
        weights = np.setdiff1d(np.flatnonzero(np.abs(gradient) > 1e-5), [*cameras, *latents])
        chosen = [*latents, *rng.choice(weights, 30, replace=False)]
        steps = 1e-6 * np.eye(len(flat))[chosen]
        start = np.asarray(flat)
        after, before = np.split(
            np.asarray(jax.jit(jax.vmap(loss))(np.concatenate([start + steps, start - steps]))), 2
        )
        np.testing.assert_allclose(gradient[chosen], (after - before) / 2e-6, rtol=1e-4, atol=1e-9)
        assert np.abs(gradient[cameras]).min() > 0


def test_camera_corrections_move_what_is_seen_as_their_gradient_says(rng):
    """Of a picture of a smooth field, at fixed sample distances, against finite differences."""
    with double_precision():
        matrix = jnp.asarray(intrinsic_matrix(np.full(2, 10.0), np.full((2, 2), 4.0)))
        poses = jnp.asarray(turned_camera(np.array([20.0, -35]), 5, 3.0))
        pixels = jnp.asarray(rng.uniform(0, 8, (2, 6, 2)))
        distances = jnp.linspace(2, 4, 16)

        @jax.jit
        def picture(corrections):
            moved = corrected_cameras(poses, corrections, corrections.mean(0))
            origins, directions = pixel_rays(pixels, matrix, moved)
            points = origins[..., None, :] + distances[None, None, :, None] * directions[..., None, :]
            return jnp.sum(jnp.exp(-jnp.sum((points - jnp.array([[[[0.2, 0.1, 0.3]]]])) ** 2, -1) * 3))

        start = rng.normal(0, 0.05, (2, 6))
        gradient = np.asarray(jax.jit(jax.grad(picture))(start))
        for place in np.ndindex(2, 6):
            step = np.zeros((2, 6))
            step[place] = 1e-6
            numeric = float(picture(start + step) - picture(start - step)) / 2e-6
            assert gradient[place] == pytest.approx(numeric, rel=1e-5, abs=1e-7)
        # Moving all cameras together moves nothing.
        np.testing.assert_allclose(gradient.sum(0), 0, atol=1e-9)


def test_corrections_turn_about_the_origin_of_the_world():
    pose = jnp.asarray(turned_camera(30.0, 0, 4.0))[None]
    quarter = jnp.array([[0, np.pi / 2, 0, 0, 0, 0]])
    moved = corrected_cameras(pose, quarter, jnp.zeros(6))
    assert float(jnp.linalg.norm(moved[0, :3, 3])) == pytest.approx(4, rel=1e-5)
    center = np.asarray(pose[0, :3, 3])
    np.testing.assert_allclose(moved[0, :3, 3], [center[2], center[1], -center[0]], atol=1e-5)


@pytest.fixture
def stored(network, rng):
    """A model that was never trained, as a value."""
    module, variables = network
    sizes = {name: value for name, value in SIZES.items() if name != "bounds"}
    none = {"local_size": 0, "local_channels": 0, "background_cells": 0, "background_channels": 0}
    recipe = replace(PRESETS["fast"], field=module.config.kind, size=16, **sizes, **none)
    return Model(
        object_class=object_class("cars"),
        recipe=recipe,
        config=recipe.field_config(module.config.bounds),
        parameters=jax.tree.map(np.asarray, variables["params"]),
        latents=rng.normal(size=(3, 5)).astype(np.float32),
        occupancy=rng.uniform(size=(4, 4, 4)).astype(np.float32),
        images=["x/0.png", "ü.png", "2.png"],
        digests=["a" * 64, "", "b" * 64],
        image_size=np.full((3, 2), 16, np.int32),
        intrinsics=np.tile(np.eye(3), (3, 1, 1)),
        cam_to_world=turned_camera(np.arange(3.0), 0, np.array([2.0, 3.0, 9.0])),
        window=np.ones((3, 3)),
        canonical_index=np.zeros(0, np.int32),
        canonical=np.zeros((0, 3)),
        steps=12,
    )


def save(path, model):
    save_model(
        storage.Stage(path, "model/1", model.object_class, parameters={"seed": 0}),
        model,
        log=np.ones((2, 9)),
        log_names=list("abcdefgh"),
    )


def test_a_model_file_gives_the_model_back(stored, tmp_path, rng):
    save(tmp_path / "model.h5", stored)
    found = load_model(tmp_path / "model.h5")
    for one, other in zip(jax.tree.leaves(stored.parameters), jax.tree.leaves(found.parameters), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for name, value in vars(stored).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
        elif name != "parameters":
            assert getattr(found, name) == value, name
    assert found.distance == pytest.approx(3)
    assert found.size == 16
    # It computes the same.
    given = (
        jnp.asarray(stored.latents),
        jnp.asarray(rng.uniform(-1, 1, (3, 4, 3)), jnp.float32),
        jnp.ones((3, 4, 3)),
    )
    for one, other in zip(
        *(
            jax.tree.leaves(GenerativeField(m.config).apply({"params": m.parameters}, *given))
            for m in (stored, found)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_folder_stands_for_its_model(stored, tmp_path):
    save(tmp_path / "model.h5", stored)
    assert load_model(tmp_path).images == stored.images
    save(tmp_path / "again.h5", stored)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "model.h5").read_bytes()


def test_what_is_no_model_is_refused(stored, tmp_path):
    with pytest.raises(InputError, match=r"model\.h5 does not exist.*nerfgen train"):
        load_model(tmp_path)
    save(tmp_path / "old.h5", stored)
    with edited(tmp_path / "old.h5") as file:
        recorded = json.loads(file.attrs["preset"])
        del recorded["latent_size"]
        file.attrs["preset"] = json.dumps(recorded)
    with pytest.raises(InputError, match="latent_size"):
        load_model(tmp_path / "old.h5")
    with storage.Stage(tmp_path / "m.h5", "masks/1", "cars").create() as file:
        for name, value in (
            ("image", ["a"]),
            ("status", ["ok"]),
            ("image_size", [[1, 1]]),
            ("mask_window", [[0, 0, 1]]),
        ):
            storage.put(file, name, value)
        storage.put(file, "mask", np.zeros((1, 2, 2)))
    with pytest.raises(InputError, match="masks/1"):
        load_model(tmp_path / "m.h5")


def test_the_modules_are_flax_modules_with_the_documented_names():
    """Files name the arrays by layer: renaming one breaks every model that was trained before."""
    module = GenerativeField(FieldConfig(kind="mlp", **SIZES))
    point = jnp.zeros((1, 1, 3))
    given = (jax.random.key(0), jnp.zeros((1, 5)), point, point)
    parameters = jax.eval_shape(module.init, *given)["params"]
    assert isinstance(module, nn.Module)
    assert set(parameters) == {"foreground", "background"}
    layers = {"point_0", "point_1", "latent_0", "latent_1", "hidden_1", "hidden_2", "output"}
    assert set(parameters["foreground"]) == layers
