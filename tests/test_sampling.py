"""New objects and walks: the table's Gaussian, truncated draws, paths between objects and along axes, nearness."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.stats
from edited import edited
from PIL import Image

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import turned_cameras
from nerfgen.model import (
    Objects,
    draw_identities,
    drawn_objects,
    find_objects,
    great_arc,
    mean_object,
    move_to,
    neighbours,
    principal_axes,
    resolve_references,
    truncated_draws,
    walk_axis,
    walk_between,
)
from nerfgen.render import RenderSettings, render_to_file


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def table(rng):
    return rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 3


def test_principal_axes_are_those_of_the_covariance(table):
    principal = principal_axes(table)
    covariance = np.cov(table, rowvar=False)
    rebuilt = principal.axes.T @ np.diag(principal.deviation**2) @ principal.axes
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-10)
    np.testing.assert_allclose(principal.axes @ principal.axes.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(principal.mean, table.mean(0))
    assert (np.diff(principal.deviation) <= 0).all()
    assert (np.abs(principal.axes).max(1) == principal.axes.max(1)).all(), "their direction is settled"


def test_the_spectrum_is_the_share_of_each_axis(table):
    principal = principal_axes(table)
    values = np.linalg.eigvalsh(np.cov(table, rowvar=False))[::-1]
    np.testing.assert_allclose(principal.spectrum, values / values.sum())
    assert principal.spectrum.sum() == pytest.approx(1)
    most = principal.axes_that_hold(0.9)
    assert principal.spectrum[:most].sum() >= 0.9 > principal.spectrum[: most - 1].sum()
    alike = principal_axes(np.ones((5, 3)))
    assert (alike.varying, alike.axes_that_hold(0.9), alike.spectrum.sum()) == (0, 0, 0)


def test_codes_and_coordinates_are_inverse(table, rng):
    principal = principal_axes(table)
    coordinates = principal.coefficients(table)
    np.testing.assert_allclose(principal.codes(coordinates), table)
    np.testing.assert_allclose(coordinates.std(0, ddof=1), 1)
    # Three rows span two axes; along the third number of a coordinate nothing is known.
    few = principal_axes(table[:3])
    assert few.varying == 2
    np.testing.assert_allclose(few.codes(few.coefficients(table[:3])), table[:3])
    assert np.abs(few.coefficients(rng.normal(size=(4, 6)))[:, 2]).max() == 0
    assert np.isfinite(principal_axes(table[:1]).coefficients(table[:1])).all()


def test_local_features_follow_the_global_code(rng):
    """What the global dimensions predict of them is part of each axis; the rest is off the axes."""
    whole, effect = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(3, 4))
    noise = rng.normal(size=(300, 4))
    table = np.concatenate([whole, whole @ effect + 2], axis=1)
    principal = principal_axes(table, 3)
    np.testing.assert_allclose(principal.codes(principal.coefficients(table)), table)
    np.testing.assert_allclose(principal.local_deviation, table[:, 3:].std(0))
    np.testing.assert_allclose(
        principal.coefficients(table), principal_axes(table[:, :3]).coefficients(table[:, :3])
    )
    # Features of their own change neither coordinates nor what the axes predict, up to chance.
    noisy = principal_axes(np.concatenate([whole, whole @ effect + 2 + noise], axis=1), 3)
    np.testing.assert_allclose(noisy.coefficients(table), principal.coefficients(table))
    np.testing.assert_allclose(
        noisy.axes[:, 3:] * noisy.deviation[:, None],
        principal.axes[:, 3:] * principal.deviation[:, None],
        atol=0.3,
    )


def test_new_objects_have_local_features_of_their_own(rng):
    """Beyond what the global dimensions predict, with the table's covariance, and truncated like the coefficients."""
    whole = rng.normal(size=(600, 3))
    noise = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 4))
    table = np.concatenate([whole, whole @ rng.normal(size=(3, 4)) + noise], axis=1)
    principal = principal_axes(table, 3)
    drawn = drawn_objects(principal, 4000, 10.0, 0)
    expected = np.cov(table.T)
    np.testing.assert_allclose(np.cov(drawn.latents.T), expected, atol=0.1 * expected.max())
    np.testing.assert_allclose(drawn_objects(principal, 3, 10.0, 0).latents, drawn.latents[:3])
    # The coefficients do not tell the residuals.
    predicted = principal.codes(drawn.extra["coefficients"])
    residual = (drawn.latents - predicted)[:, 3:]
    np.testing.assert_allclose((drawn.latents - predicted)[:, :3], 0, atol=1e-12)
    assert abs(np.corrcoef(residual[:, 0], drawn.extra["coefficients"][:, 0])[0, 1]) < 0.05
    narrow = drawn_objects(principal, 400, 0.5, 0)
    ratio = (narrow.latents - principal.codes(narrow.extra["coefficients"]))[:, 3:].std() / residual.std()
    assert ratio == pytest.approx(truncated_draws(400, 50, 0.5, 0).std(), rel=0.05)
    np.testing.assert_allclose(drawn_objects(principal, 2, 0.0, 0).latents, np.tile(table.mean(0), (2, 1)))
    # A code that is redrawn for being near to a row has the residual of its own draw.
    around = neighbours(principal, table)
    again = draw_identities([7], around, truncation=1.0, seed=3)
    np.testing.assert_allclose(again.latents, drawn_objects(principal, 8, 1.0, 3).latents[7:])


def test_fewer_components_vary_less(rng):
    table = rng.normal(size=(50, 6)) * [9, 5, 1, 1, 1, 1]
    few = principal_axes(table).first(2)
    assert few.axes.shape == (2, 6)
    codes = few.codes(rng.normal(size=(10, 2)))
    centred = codes - few.mean
    np.testing.assert_allclose(centred @ few.axes.T @ few.axes, centred, atol=1e-10)
    np.testing.assert_allclose(few.codes(np.zeros((1, 2)))[0], table.mean(0))
    assert len(principal_axes(table).first(0).deviation) == 6


def test_draws_follow_the_table(rng):
    table = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + 1
    principal = principal_axes(table)
    codes = principal.codes(truncated_draws(4000, 3, 50.0, seed=0))
    np.testing.assert_allclose(np.cov(codes, rowvar=False), np.cov(table, rowvar=False), rtol=0.15, atol=0.15)
    np.testing.assert_allclose(codes.mean(0), table.mean(0), atol=0.15)


@pytest.mark.parametrize("truncation", [0.5, 1.0, 2.5])
def test_draws_are_truncated_normal(truncation):
    draws = truncated_draws(600, 5, truncation, seed=3)
    assert np.abs(draws).max() <= truncation
    expected = scipy.stats.truncnorm(-truncation, truncation)
    assert scipy.stats.kstest(draws.ravel(), expected.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.2


def test_more_draws_extend_fewer_and_seeds_differ():
    few, many = truncated_draws(3, 4, 0.7, seed=5), truncated_draws(9, 4, 0.7, seed=5)
    np.testing.assert_array_equal(few, many[:3])
    assert np.abs(truncated_draws(3, 4, 0.7, seed=6) - few).max() > 0.01
    assert np.abs(many[0] - many[1]).max() > 0.01
    np.testing.assert_array_equal(truncated_draws(3, 4, 0.0, seed=5), 0)


def test_an_arc_keeps_typical_length_and_turns_evenly(rng):
    start, end = rng.normal(size=(2, 40))
    share = np.linspace(0, 1, 9)
    arc = great_arc(start, end, share)
    np.testing.assert_allclose(arc[[0, -1]], [start, end])
    lengths = np.linalg.norm(arc, axis=1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 9))
    directions = arc / lengths[:, None]
    turns = np.arccos((directions[:-1] * directions[1:]).sum(1))
    np.testing.assert_allclose(turns, turns.mean())
    whole = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    assert turns.sum() == pytest.approx(whole), "the shorter way"
    straight = (start + end) / 2
    assert np.linalg.norm(straight) < 0.8 * lengths[4], "which a straight line would not do"


@pytest.mark.parametrize(
    ("start", "end", "middle"),
    [
        ([2.0, 0, 0], [4.0, 0, 0], [3.0, 0, 0]),  # one direction
        ([0.0, 0, 0], [4.0, 2, 0], [2.0, 1, 0]),  # the mean has no direction
        ([1.0, 0, 0], [-3.0, 0, 0], [0.0, 2, 0]),  # opposite: past the next axis
        ([2.0, 0, 0], [0.0, 2, 0], [np.sqrt(2), np.sqrt(2), 0]),
        ([1.0], [-3.0], [-1.0]),  # one axis leaves no other way
    ],
)
def test_arcs_without_a_plane_of_their_own(start, end, middle):
    arc = great_arc(np.array(start), np.array(end), np.array([0, 0.5, 1]))
    np.testing.assert_allclose(arc, [start, middle, end], atol=1e-12)


def given(latents, **changes):
    """Objects with these codes."""
    count = len(latents)
    return Objects([f"o{k}" for k in range(count)], ["ok"] * count, np.arange(count), latents, **changes)


def test_a_walk_shows_every_object_exactly_and_stays_typical(table):
    principal = principal_axes(table)
    objects = given(table[[3, 50, 120]])
    walk = walk_between(objects, principal, 12)
    assert len(walk) == 12
    stops = np.array([walk.names.index(name) for name in objects.names])
    np.testing.assert_array_equal(stops[[0, -1]], [0, 11])
    np.testing.assert_array_equal(walk.latents[stops], objects.latents)
    np.testing.assert_allclose(principal.codes(walk.extra["coefficients"]), walk.latents)
    norms = np.linalg.norm(walk.extra["coefficients"], axis=1)
    assert norms.min() > norms[stops].min() - 1e-9
    assert norms.max() < norms[stops].max() + 1e-9
    assert 0.5 < np.diff(stops)[0] / np.diff(stops)[1] < 2


def test_a_walk_ends_exactly_off_the_axes_too(rng):
    """Three rows span two axes of five; fitted codes do not lie in them."""
    principal = principal_axes(rng.normal(size=(3, 5)))
    objects = given(rng.normal(size=(2, 5)))
    walk = walk_between(objects, principal, 5)
    np.testing.assert_array_equal(walk.latents[[0, 4]], objects.latents)
    near = walk_between(objects, principal, 100001).latents
    np.testing.assert_allclose(near[[1, -2]], objects.latents, atol=1e-3)


def test_what_a_network_was_tuned_by_changes_linearly(table):
    first, last = {"a": {"w": np.ones(2)}}, {"a": {"w": np.full(2, 3.0), "b": np.full(1, 8.0)}}
    principal = principal_axes(table)
    walk = walk_between(given(table[:3], tuned={0: first, 1: last}), principal, 9)
    np.testing.assert_allclose(walk.tuned[1]["a"]["w"], 1.5)
    np.testing.assert_allclose(walk.tuned[1]["a"]["b"], 2.0)
    np.testing.assert_allclose(walk.tuned[6]["a"]["w"], 1.5)
    assert walk.tuned[0] is first
    assert walk.tuned[4] is last
    assert 8 not in walk.tuned
    assert walk_axis(principal, 1, np.zeros(2), given(table[:1], tuned={0: first})).tuned[1] is first


def test_a_walk_along_an_axis_changes_one_coordinate(table):
    principal = principal_axes(table)
    values = np.linspace(-3, 3, 7)
    walk = walk_axis(principal, 2, values)
    np.testing.assert_allclose(walk.latents[3], table.mean(0))
    expected = np.zeros((7, 6))
    expected[:, 1] = values
    np.testing.assert_allclose(principal.coefficients(walk.latents), expected, atol=1e-9)
    one = given(table[[9]])
    moved = principal.coefficients(walk_axis(principal, 2, values, one).latents)
    own = principal.coefficients(one.latents)[0]
    np.testing.assert_allclose(moved[:, 1], values, atol=1e-9)
    np.testing.assert_allclose(np.delete(moved, 1, axis=1), np.tile(np.delete(own, 1), (7, 1)), atol=1e-9)
    at_own = walk_axis(principal, 2, own[[1]], one)
    np.testing.assert_allclose(at_own.latents, one.latents, atol=1e-12)


def test_moving_sets_coordinates_and_keeps_all_else(table, rng):
    principal = principal_axes(table, 4)  # two local features
    objects = Objects(["a", "b"], ["ok"] * 2, np.array([3, 5]), table[[3, 5]], tuned={1: {"x": np.ones(2)}})
    moved = move_to(objects, principal, {2: 1.25, 1: -0.5})
    before, after = (principal.coefficients(each.latents) for each in (objects, moved))
    np.testing.assert_allclose(after[:, :2], [[-0.5, 1.25]] * 2)
    np.testing.assert_allclose(after[:, 2:], before[:, 2:], atol=1e-9)
    off = [each.latents - principal.codes(principal.coefficients(each.latents)) for each in (objects, moved)]
    np.testing.assert_allclose(off[0], off[1], atol=1e-9)
    assert moved.tuned is objects.tuned
    assert list(moved.rows) == [-1, -1]
    again = move_to(mean_object(principal), principal, [(1, 2.0)])
    np.testing.assert_allclose(again.latents, walk_axis(principal, 1, np.array([2.0])).latents)
    with pytest.raises(InputError, match="axis 5 does not exist"):
        move_to(objects, principal, {5: 1.0})


def test_walks_that_lead_nowhere_are_told(table):
    principal, objects = principal_axes(table), given(table[:3])
    unusable = replace(objects, status=["ok", "no_object", "ok"])
    for walk, told in (
        (lambda: walk_between(given(table[:1]), principal, 9), "two objects"),
        (lambda: walk_between(objects, principal, 2), "`frames` 2 is too few"),
        (lambda: walk_between(unusable, principal, 9), "o1.*no_object"),
        (lambda: walk_axis(principal, 7, np.zeros(2)), "axes 1 to 6"),
        (lambda: walk_axis(principal, 0, np.zeros(2)), "axes 1 to 6"),
        (lambda: walk_axis(principal, 1, np.zeros(2), objects), "one object"),
    ):
        with pytest.raises(InputError, match=told):
            walk()


def test_independent_draws_are_about_one_apart_whatever_their_truncation(rng):
    table = rng.normal(size=(300, 40)) * rng.uniform(0.1, 3, size=40)
    principal = principal_axes(table)
    around = neighbours(principal, table)
    one = neighbours(principal, table[:1])
    for truncation in (0.3, 50.0):
        codes = drawn_objects(principal, 200, truncation, seed=1).latents
        assert one.nearest(codes)[0].mean() == pytest.approx(1, abs=0.03)
        assert around.near < np.median(around.nearest(codes)[0]) < 1


def test_training_rows_are_near_to_themselves_and_rarely_to_each_other(table, rng):
    principal = principal_axes(table)
    around = neighbours(principal, table)
    distance, row = around.nearest(table[[7, 30]])
    np.testing.assert_array_equal(row, [7, 30])
    np.testing.assert_allclose(distance, 0, atol=1e-3)
    # A training object made more average is that object still; the mean is nobody.
    distance, row = around.nearest(principal.mean + 0.3 * (table[[7]] - principal.mean))
    assert (row[0], distance[0]) == (7, pytest.approx(0, abs=1e-3))
    assert around.nearest(principal.mean[None])[0] == pytest.approx(1)
    each = [neighbours(principal, np.delete(table, k, axis=0)).nearest(table[[k]])[0][0] for k in range(200)]
    assert np.mean(np.array(each) <= around.near) == pytest.approx(0.01)


def test_identities_too_near_are_drawn_again(table):
    around = neighbours(principal_axes(table), table)
    free = draw_identities(range(50), around, truncation=0.7, seed=2)
    np.testing.assert_array_equal(free.coefficients, truncated_draws(50, 6, 0.7, seed=2))
    assert (free.attempts == 1).all()
    least = float(np.median(free.distance))
    kept = draw_identities(range(50), around, truncation=0.7, seed=2, min_distance=least)
    assert kept.distance.min() >= least
    first = free.distance >= least
    np.testing.assert_array_equal(kept.attempts == 1, first)
    np.testing.assert_array_equal(kept.latents[first], free.latents[first])
    alone = draw_identities([17], around, truncation=0.7, seed=2, min_distance=least)
    np.testing.assert_array_equal(alone.latents[0], kept.latents[17])
    with pytest.raises(InputError, match=r"`min_distance` 1\.4 .*: identity 3 .* 100 draws"):
        draw_identities([3], around, truncation=0.7, seed=2, min_distance=1.4)


@pytest.fixture(scope="module")
def samples(model, trained, tmp_path_factory):
    """A file of two samples."""
    output = tmp_path_factory.mktemp("samples") / "samples.h5"
    drawn = drawn_objects(model.principal, 2, 0.7, seed=1)
    stage = storage.Stage(output, "views/1", "cars", inputs=[storage.file_record(trained)])
    camera = turned_cameras(np.zeros(1), np.zeros(1), model.distance)
    render_to_file(
        model, drawn, stage, cameras=camera, rendering=RenderSettings(size=8, samples=4, antialias=1)
    )
    return output


def test_references_are_named_the_same_however_they_are_put(model, trained, samples):
    names, files = resolve_references(model, ["3", "0,5-6", f"{samples}:1", str(samples)])
    assert names == ["3", "0", "5", "6", "samples.h5:1", "samples.h5:0", "samples.h5:1"]
    assert files == [samples]
    digest = storage.file_record(trained)["sha256"]
    assert len(find_objects(model, digest, ["3", "0,5-6", f"{samples}:1", str(samples)])) == len(names)
    for wrong, told in (
        ("40", "0 to 39"),
        (f"{samples}:2", "0 to 1"),
        ("x.h5", "does not exist"),
    ):
        with pytest.raises(InputError, match=told):
            resolve_references(model, [wrong])


SMALL = ("--size", 12, "--samples", 4)


def test_between_walks_from_a_row_to_a_sample(run, call, model, trained, samples, tmp_path):
    words = [
        "sample",
        trained,
        "--between",
        3,
        f"{samples}:1",
        "--frames",
        5,
        *SMALL,
        "-o",
        tmp_path / "w.h5",
    ]
    done = run(*words, "--video", tmp_path / "w.gif", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["num_frames"], result["views"]) == (5, 1)
    with h5py.File(tmp_path / "w.h5") as file, h5py.File(samples) as other:
        np.testing.assert_array_equal(file["latents"][0], model.latents[3])
        np.testing.assert_array_equal(file["latents"][4], other["latents"][1])
        np.testing.assert_array_equal(file["angles"][:], [[0, 0]])
        shares = file["deviation"][:] ** 2 / (file["deviation"][:] ** 2).sum()
        np.testing.assert_allclose(shares, result["spectrum"])
        assert file["coefficients"].shape[1] == len(shares)
        first = file["rgb"][:, 0]
        assert {record["file"] for record in json.loads(file.attrs["inputs"])} == {"model.h5", "samples.h5"}
    with Image.open(tmp_path / "w.gif") as video:
        assert video.n_frames == 5, "time runs over the objects"
        assert video.size == (12, 12)
    assert (first[0] != first[4]).any()
    # What it takes from a file of codes is part of what it is made from.
    changed = tmp_path / "samples.h5"
    changed.write_bytes(samples.read_bytes())
    with edited(changed) as file:
        file["latents"][1] += 1
    with pytest.raises(OutputExistsError, match=r"input samples\.h5"):
        call(*words[:4], f"{changed}:1", *words[5:])


def test_directions_and_new_objects_are_walked_too(call, model, trained, tmp_path):
    call(
        *(
            "sample",
            trained,
            7,
            "--direction",
            2,
            "--range",
            "-2:1",
            "--frames",
            4,
            *SMALL,
            "--yaw",
            "-30,30",
        ),
        *("-o", tmp_path / "d.h5", "--quiet"),
    )
    principal = model.principal
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["rgb"].shape[:2] == (4, 2)
        walked = principal.coefficients(file["latents"][:])[:, 1]
        np.testing.assert_allclose(walked, [-2, -1, 0, 1], atol=1e-4)
    call(
        *("sample", trained.parent, "--between", "-n", 2, "--frames", 5, *SMALL, "-o", tmp_path / "n.h5"),
        *("--quiet", "--sheet", tmp_path / "n.png"),
    )
    drawn = drawn_objects(principal, 2, 0.7, seed=0)
    with h5py.File(tmp_path / "n.h5") as file:
        np.testing.assert_allclose(file["latents"][:][[0, 4]], drawn.latents, atol=1e-6)
    with Image.open(tmp_path / "n.png") as sheet:
        assert sheet.width > 24, "single views stand in a square"


def test_render_takes_coordinates_and_seeds(call, model, trained, tmp_path):
    small = ("--yaw", 0, "--size", 8, "-q")
    call("sample", trained, "-n", 1, "--seed", 7, *small, "-o", tmp_path / "s.h5")
    call("render", trained, "--new", 7, *small, "-o", tmp_path / "n.h5")
    call("render", trained, "--new", 7, "--axes", "1=2.5", *small, "-o", tmp_path / "m.h5")
    call("render", trained, "--axes", "1=2.5", *small, "-o", tmp_path / "a.h5")
    files = {name: h5py.File(tmp_path / f"{name}.h5") for name in "snma"}
    for name in ("latents", "rgb", "depth"):
        np.testing.assert_array_equal(files["s"][name][:], files["n"][name][:])
    found = {name: model.principal.coefficients(file["latents"][:])[0] for name, file in files.items()}
    assert found["m"][0] == pytest.approx(2.5, abs=1e-5)
    np.testing.assert_allclose(found["m"][1:], found["n"][1:], atol=1e-5)
    np.testing.assert_allclose(found["a"], [2.5, *[0] * (len(found["a"]) - 1)], atol=1e-5)
    for file in files.values():
        file.close()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--new", "1", "--rows", "0"], "--rows and --new exclude each other"),
        (["--truncation", "1"], "--truncation has an effect on --new only"),
        (["--axes", "1"], "--axes 1: give each principal axis"),
        (["--axes", "0=1"], "--axes 0=1: give each"),
        (["--axes", "1=1,1=2"], "--axes 1=1,1=2: give each"),
        (["--axes", "1=nan"], "--axes 1=nan: give each"),
        (["--axes", "99=1"], "principal axis 99 does not exist"),
    ],
)
def test_coordinates_and_seeds_that_mean_nothing(run, trained, tmp_path, options, why):
    done = run("render", trained, *options, "-o", tmp_path / "v.h5")
    assert done.code == 2
    assert why in done.err
    assert not (tmp_path / "v.h5").exists()


def test_options_that_would_do_nothing_are_refused(call, trained, samples):
    for words, told in (
        (["3"], "CODE is for walks only"),
        (["--frames", "9"], "--frames is for walks only"),
        (["--range", "-1:1"], "--range is for --direction only"),
        (["--range", "-1:1", "--between", "3", "4"], "--range is for --direction only"),
        (["--between", "3", "4", "--truncation", "1"], "--truncation has no effect"),
        (["--direction", "1", "-n", "3"], "--num-samples has no effect"),
        (["--direction", "1", "--between"], "exclude each other"),
        (["--direction", "1", "--range", "3"], "--range 3: give two numbers"),
        (["--direction", "1", "--range", "0:nan"], "--range 0:nan: give two numbers"),
        (["--views", "3"], "--views is for --dataset only"),
        (["--dataset", "x", "--yaw", "3"], "--yaw and --dataset exclude each other"),
        (["--dataset", "x", "--between", "3", "4"], "and --dataset exclude each other"),
        (["--between", "3"], "two objects"),
        (["--between", "3", f"{samples}:0", "-o", samples], "holds a CODE"),
    ):
        with pytest.raises(InputError, match=told):
            call("sample", trained, *words)
