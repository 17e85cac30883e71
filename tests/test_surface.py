"""Surfaces: isosurfaces of known densities, the level that cameras see, meshes of a model and their files."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import assimp_py
import igl.embree
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from nerfgen import mesh, storage
from nerfgen.errors import InputError, OutputExistsError, UnusableImagesError
from nerfgen.geometry import Cameras, pixel_centers, pixel_rays, turned_cameras
from nerfgen.mesh import MeshSettings, NoSurfaceError, extract_surface
from nerfgen.mesh.density_grid import sample_density, visible_level
from nerfgen.mesh.isosurface import face_normals
from nerfgen.model import Objects
from nerfgen.objectclass import object_class
from nerfgen.render import RenderSettings, render_to_file, render_views

CUBE = (1.0, 1.0, 1.0)
AROUND = turned_cameras(np.array([0.0, 70, 140, 210, 290]), np.array([10.0, -30, 0, 50, -10]), 4.0)


def colored(density):
    """A field of a density, whose colours are the places."""
    return lambda points: (density(points), 0.5 + 0.5 * points)


def ball(radius, slope=400.0, center=(0, 0, 0)):
    """Density that grows from the ball's edge inwards by ``slope`` a unit."""
    return lambda points: slope * np.maximum(radius - np.linalg.norm(points - center, axis=-1), 0)


def volume(mesh):
    """By the divergence theorem: positive if faces are counter-clockwise as seen from outside."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(float), 1, 0)
    return np.sum(a * np.cross(b, c)) / 6


def area(mesh):
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(float), 1, 0)
    return np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2


def test_a_ball_becomes_a_ball():
    found = extract_surface(colored(ball(0.7)), CUBE, AROUND, MeshSettings(resolution=40, level=40.0))
    mesh, radius = found.mesh, np.linalg.norm(found.mesh.vertices, axis=-1)
    np.testing.assert_allclose(radius, 0.6, atol=0.003)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.01)
    assert area(mesh) == pytest.approx(4 * np.pi * 0.6**2, rel=0.01)
    assert mesh.watertight
    np.testing.assert_allclose(mesh.normals, mesh.vertices / radius[:, None], atol=0.03)
    assert (np.sum(mesh.normals * face_normals(mesh.vertices, mesh.faces), axis=-1) > 0.98).all()
    np.testing.assert_allclose(mesh.colors / 255, 0.5 + 0.5 * mesh.vertices, atol=0.003)
    assert (found.level, found.parts) == (40.0, 1)


def test_the_box_need_not_be_a_cube():
    half = (0.3, 0.5, 1.0)

    def ellipsoid(points):
        return ball(0.9, 50.0)(points / half)

    mesh = extract_surface(colored(ellipsoid), half, AROUND, MeshSettings(resolution=64, level=5.0)).mesh
    np.testing.assert_allclose(np.abs(mesh.vertices).max(0), 0.8 * np.array(half), rtol=0.01)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.8**3 * np.prod(half), rel=0.02)


def wall(slope):
    """Density that grows by ``slope`` a unit behind z = 0.3."""
    return lambda points: (slope * np.maximum(0.3 - points[:, 2], 0), None)


def test_the_level_of_a_wall_is_where_rays_become_half_opaque():
    """Rays that meet a wall head on, whose density grows by s a unit: s t^2 / 2 = log 2 at the depth t."""
    far = turned_cameras(np.zeros(1), np.zeros(1), 100.0, 0.3)
    for slope in (50.0, 800.0):
        grid = sample_density(wall(slope), CUBE, 100)
        assert visible_level(grid, far) == pytest.approx(np.sqrt(2 * slope * np.log(2)), rel=0.02)


def test_the_surface_of_a_soft_ball_lies_where_rays_become_half_opaque():
    found = extract_surface(colored(ball(0.7, 600.0)), CUBE, AROUND, MeshSettings(resolution=80))
    # Head on as before; rays that meet it at a slant stop earlier.
    depth = np.sqrt(2 * np.log(2) / 600)
    radius = np.linalg.norm(found.mesh.vertices, axis=-1)
    assert np.ptp(radius) < 0.01
    assert 0.7 - depth - 0.003 < radius.mean() < 0.7 - 0.6 * depth


def test_what_no_camera_sees_has_no_surface():
    with pytest.raises(NoSurfaceError, match="no camera sees"):
        extract_surface(colored(ball(0.7, 0.1)), CUBE, AROUND, MeshSettings(resolution=16))
    with pytest.raises(NoSurfaceError, match="level 300"):
        extract_surface(colored(ball(0.7)), CUBE, AROUND, MeshSettings(resolution=16, level=300.0))


def test_a_level_below_every_density_has_no_surface_but_that_of_the_box() -> None:
    def everywhere(points):
        return np.full(len(points), 5.0, np.float32), np.zeros((len(points), 3), np.float32)

    with pytest.raises(NoSurfaceError, match="exceeds the level 2 everywhere"):
        extract_surface(everywhere, CUBE, AROUND, MeshSettings(8, 2.0))
    closed = extract_surface(everywhere, CUBE, AROUND, MeshSettings(8, 2.0, watertight=True)).mesh
    assert closed.watertight


def two_balls(points):
    return np.maximum(ball(0.4, center=(-0.5, 0, 0))(points), ball(0.3, center=(0.5, 0.2, 0))(points))


def test_the_largest_part_is_kept_alone_or_all_are():
    one = extract_surface(colored(two_balls), CUBE, AROUND, MeshSettings(resolution=40, level=20.0))
    assert one.parts == 2
    assert one.mesh.vertices[:, 0].max() < 0
    both = extract_surface(
        colored(two_balls), CUBE, AROUND, MeshSettings(resolution=40, level=20.0, largest=False)
    )
    right = both.mesh.vertices[:, 0] > 0
    np.testing.assert_array_equal(both.mesh.vertices[~right], one.mesh.vertices)
    np.testing.assert_allclose(
        np.linalg.norm(both.mesh.vertices[right] - [0.5, 0.2, 0], axis=-1), 0.25, atol=0.01
    )


def test_cavities_are_filled():
    def shell(points):
        return ball(0.8)(points) * (np.linalg.norm(points, axis=-1) > 0.4)

    mesh = extract_surface(colored(shell), CUBE, AROUND, MeshSettings(resolution=40, level=20.0)).mesh
    assert np.linalg.norm(mesh.vertices, axis=-1).min() > 0.7


def column(points):
    """A column that the box cuts above and below, as shoulders and neck are cut."""
    return (
        400 * np.maximum(0.6 - np.linalg.norm(points[:, [0, 2]], axis=-1), 0) * (np.abs(points) <= 1).all(-1)
    )


@pytest.mark.parametrize("faces", [None, 900])
def test_watertight_closes_what_the_box_cuts(faces):
    open_one = extract_surface(colored(column), CUBE, AROUND, MeshSettings(32, 40.0, faces=faces)).mesh
    closed = extract_surface(
        colored(column), CUBE, AROUND, MeshSettings(32, 40.0, watertight=True, faces=faces)
    ).mesh
    assert not open_one.watertight
    assert area(open_one) == pytest.approx(2 * np.pi * 0.5 * 2, rel=0.02)
    assert closed.watertight
    assert volume(closed) == pytest.approx(np.pi * 0.5**2 * 2, rel=0.02)
    for each in (open_one, closed):
        np.testing.assert_array_equal([each.vertices[:, 1].min(), each.vertices[:, 1].max()], [-1, 1])
        np.testing.assert_allclose(np.linalg.norm(each.normals, axis=-1), 1, atol=1e-5)
    inner = (closed.vertices[:, 1] == 1) & (np.linalg.norm(closed.vertices[:, [0, 2]], axis=-1) < 0.35)
    if not faces:
        np.testing.assert_allclose(closed.normals[inner], np.tile([0, 1, 0], (inner.sum(), 1)), atol=1e-5)


def test_any_shape_is_closed_and_stays_so_when_simplified():
    """Noise has saddles, tunnels, and parts that touch at corners and edges."""
    noise = gaussian_filter(np.random.default_rng(5).normal(size=(24, 24, 24)), 1.0)

    def field(points):
        return np.maximum(map_coordinates(noise, (points.T + 1) * 11.5, order=1), 0), points

    meshing = MeshSettings(resolution=29, level=0.05, largest=False, watertight=True)
    whole = extract_surface(field, CUBE, AROUND, meshing).mesh
    few = extract_surface(
        field, CUBE, AROUND, MeshSettings(29, 0.05, largest=False, watertight=True, faces=6000)
    ).mesh
    assert whole.watertight
    assert few.watertight
    assert len(whole.faces) > 4 * len(few.faces)
    assert len(few.faces) == pytest.approx(6000, abs=2)
    assert volume(few) == pytest.approx(volume(whole), rel=0.05)


def test_simplification_reaches_its_target_and_stays_close():
    meshing = MeshSettings(resolution=48, level=40.0, faces=500)
    mesh = extract_surface(colored(ball(0.7)), CUBE, AROUND, meshing).mesh
    assert len(mesh.faces) == 500
    assert len(mesh.vertices) == len(mesh.normals) == len(mesh.colors) == 252
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=-1), 0.6, atol=0.01)
    np.testing.assert_allclose(mesh.colors / 255, 0.5 + 0.5 * mesh.vertices, atol=0.003)
    few = MeshSettings(resolution=8, level=40.0, faces=10**6)
    assert len(extract_surface(colored(ball(0.7)), CUBE, AROUND, few).mesh.faces) > 50, "nothing to simplify"


def test_a_large_grid_is_sampled_in_parts(monkeypatch):
    whole = sample_density(colored(two_balls), (1.0, 0.5, 0.75), 20)
    assert whole.density.shape == (21, 11, 16)
    np.testing.assert_allclose(whole.last, [1, 0.5, 0.75])
    monkeypatch.setattr("nerfgen.mesh.density_grid._POINTS", 100)
    parts = sample_density(colored(two_balls), (1.0, 0.5, 0.75), 20)
    np.testing.assert_array_equal(parts.density, whole.density)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    np.testing.assert_allclose(whole.at(points), two_balls(points), atol=10)


# What follows is about the meshes of a model.

RESOLUTION = ["--resolution", 40]


def reopened(path):
    """The only mesh of a file, as another library reads it: vertices, normals, colours with alpha, faces."""
    scene = assimp_py.import_file(str(path), assimp_py.Process_JoinIdenticalVertices)
    (mesh,) = scene.meshes
    # The memory is the library's, and gone with the scene.
    indices = np.array(mesh.indices).reshape(-1, 3)
    return *(
        np.array(values).reshape(len(mesh.vertices) // 3, -1)
        for values in (mesh.vertices, mesh.normals, mesh.colors[0])
    ), indices


@pytest.fixture(scope="module")
def exported(call, trained, tmp_path_factory):
    """A folder with ``car.glb``, ``car.ply`` and ``car.obj`` of row 3."""
    folder = tmp_path_factory.mktemp("meshes")
    for suffix in mesh.FORMATS:
        call("export", trained, "--rows", 3, *RESOLUTION, "-o", folder / f"car{suffix}", "--quiet")
    return folder


def test_every_format_is_read_by_another_library(exported, model):
    found = mesh.object_surface(model, model.latents[3], MeshSettings(resolution=40)).mesh
    assert len(found.faces) > 500
    for suffix in (".glb", ".ply", ".obj"):
        vertices, normals, colors, faces = reopened(exported / f"car{suffix}")
        assert len(vertices) == len(found.vertices), suffix
        assert len(faces) == len(found.faces)
        # Readers may put vertices into another order.
        np.testing.assert_allclose(vertices[faces], found.vertices[found.faces], atol=1e-6)
        np.testing.assert_allclose(normals[faces], found.normals[found.faces], atol=1e-5)
        shown = found.colors / 255
        if suffix == ".glb":
            shown = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
        np.testing.assert_allclose(colors[faces][..., :3], shown[found.faces], atol=1e-4)
        np.testing.assert_array_equal(colors[:, 3], 1)
        assert (np.abs(vertices).max(0) <= np.array(model.config.bounds) + 1e-6).all()
    assert np.ptp(found.vertices, axis=0)[2] > 2 * np.ptp(found.vertices, axis=0)[1], (
        "a car is longer than high"
    )


def test_glb_is_unlit_and_linear(exported):
    data = (exported / "car.glb").read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    (primitive,) = tree["meshes"][0]["primitives"]
    assert tree["materials"][primitive["material"]]["extensions"] == {"KHR_materials_unlit": {}}
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    color = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (color["componentType"], color["normalized"], color["type"]) == (5123, True, "VEC4")
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    # Published values of the sRGB curve: its straight beginning, the middle, the end.
    linear = mesh.linear_color(np.array([0, 10, 188, 255], np.uint8)) / 65535
    np.testing.assert_allclose(linear, [0, 0.003035, 0.502886, 1], atol=1e-5)


@pytest.fixture(scope="module")
def rendered(model):
    """Views of row 3 all round it."""
    cameras = turned_cameras(np.array([0.0, 70, 140, 210, 290]), np.full(5, 20.0), model.distance)
    size = 32
    codes = np.tile(model.latents[3], (5, 1))
    return cameras, render_views(model, codes, cameras.matrices(size), cameras.cam_to_world, size, samples=64)


def seen_of(mesh: mesh.Mesh, cameras: Cameras, size: int):
    """Depth along the optical axis of the faces that a ray tracer meets first, 0 where it meets none."""
    tracer = igl.embree.EmbreeIntersector()
    tracer.init(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))
    depths = []
    for matrix, pose in zip(cameras.matrices(size), cameras.cam_to_world, strict=True):
        origins, directions = pixel_rays(pixel_centers(size), matrix, pose)
        along = directions @ pose[:3, 2]
        rays = zip(origins.astype(np.float32), directions.astype(np.float32), strict=True)
        # Number of the face, -1 for none, and distance.
        hits = [tracer.intersectRay_first(*ray)[:2] for ray in rays]
        depths.append(
            [cosine * far if face >= 0 else 0 for (face, far), cosine in zip(hits, along, strict=True)]
        )
    return np.array(depths).reshape(-1, size, size)


def test_rasterised_depth_is_the_rendered_depth(model, rendered):
    """To 2% of a car's length, for a model that is still soft; at other levels it is not."""
    cameras, views = rendered
    found = mesh.object_surface(model, model.latents[3], MeshSettings(resolution=64))

    def error(mesh):
        depth = seen_of(mesh, cameras, 32)
        clear = (views.opacity > 0.9) & (depth > 0)
        assert clear.sum() > 50
        outline = ((depth > 0) != (views.opacity > 0.5)).mean()
        return np.median(np.abs(depth - views.depth)[clear]), outline

    apart, outline = error(found.mesh)
    assert apart < 0.04
    assert outline < 0.05
    for factor in (0.3, 1.4):
        other = MeshSettings(resolution=64, level=factor * found.level)
        assert error(mesh.object_surface(model, model.latents[3], other).mesh)[0] > 2 * apart


def test_simplified_depth_is_the_rendered_depth_too(model, rendered):
    cameras, views = rendered
    meshing = MeshSettings(resolution=64, faces=1500, watertight=True)
    depth = seen_of(mesh.object_surface(model, model.latents[3], meshing).mesh, cameras, 32)
    clear = (views.opacity > 0.9) & (depth > 0)
    assert np.median(np.abs(depth - views.depth)[clear]) < 0.04


def test_equal_inputs_give_equal_bytes_and_are_kept(call, trained, exported, capsys):
    for suffix in mesh.FORMATS:
        path = exported / f"car{suffix}"
        before, written = path.read_bytes(), path.stat().st_mtime_ns
        assert str(exported).encode() not in before
        call("export", trained, "--rows", 3, *RESOLUTION, "-o", path)
        assert "kept" in capsys.readouterr().err
        assert path.stat().st_mtime_ns == written
        call("export", trained, "--rows", 3, *RESOLUTION, "-o", path, "--overwrite", "--quiet")
        assert path.stat().st_mtime_ns != written
        assert path.read_bytes() == before
        with pytest.raises(OutputExistsError, match=r"parameter object: row 3 in the file, row 4 now"):
            call("export", trained, "--rows", 4, *RESOLUTION, "-o", path)
        with pytest.raises(OutputExistsError, match="parameter watertight"):
            call("export", trained, "--rows", 3, *RESOLUTION, "--watertight", "-o", path)
        assert path.read_bytes() == before


def test_what_others_wrote_is_not_replaced(call, trained, tmp_path):
    for name, content in (("a.glb", b"glTF"), ("a.ply", b"ply\n"), ("a.obj", b"v 0 0 0\n"), ("b.glb", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OutputExistsError, match="not written by nerfgen; give --overwrite"):
            call("export", trained, "--rows", 3, *RESOLUTION, "-o", tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(InputError, match="was not written by nerfgen export"):
        call("info", tmp_path / "a.obj")
    with pytest.raises(InputError, match=r"not a readable \.glb"):
        call("info", tmp_path / "b.glb")


def test_a_mesh_says_how_it_was_made(call, trained, exported, capsys):
    for suffix in mesh.FORMATS:
        call("info", exported / f"car{suffix}", "--json")
        told = json.loads(capsys.readouterr().out)["attributes"]
        assert told["nerfgen_schema"] == "mesh/1"
        assert told["class"] == "cars"
        assert told["parameters"]["object"] == "row 3"
        assert told["inputs"] == [storage.file_record(trained)]
        assert told["surface"]["vertices"] == len(reopened(exported / f"car{suffix}")[0])
    call("info", exported / "car.ply")
    assert "resolution=40" in capsys.readouterr().out


# Other programs would read some of these lines as geometry, as the end of the header, or as a continued line.
TEXT = 'name = "mug"\n# v\nv 9 9 9\nf 1 1 1\nend_header\nelement vertex 9\r\nmtllib /etc/passwd\\\n\u2028v 8 8 8\x0bo x'


@pytest.mark.parametrize("suffix", mesh.FORMATS)
def test_descriptions_stay_comments(suffix, tmp_path):
    """Any text is read back exactly, and other programs see the geometry alone."""
    tetrahedron = mesh.Mesh(
        vertices=np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float),
        normals=np.tile([0.0, 0, 1], (4, 1)),
        colors=np.full((4, 3), 99, np.uint8),
        faces=np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    )
    path = tmp_path / f"mug{suffix}"
    described = replace(object_class("car"), name="mug", text=TEXT * 40)
    stage = storage.Stage(path, mesh.MESH_SCHEMA, described)
    mesh.write_surface(stage, mesh.Surface(tetrahedron, 10.0, 1))
    found = mesh.read_provenance(path)
    assert found["class_description"] == described.text
    assert mesh.is_current(stage)
    vertices, _, _, faces = reopened(path)
    assert (len(vertices), len(faces)) == (4, 4)
    if suffix != ".glb":
        head = path.read_bytes().partition(b"end_header")[0].splitlines()
        assert sum(len(line) > 1000 for line in head) == 0
        shown = [line for line in head if b"9 9 9" in line]
        assert all(line.startswith((b"#", b"comment")) for line in shown)
        assert shown


def glb(description: bytes) -> bytes:
    """A GLB file that has a description alone."""
    size = len(description)
    return b"glTF" + b"".join(n.to_bytes(4, "little") for n in (2, 20 + size, size)) + b"JSON" + description


HOSTILE = {
    "sizes.glb": (glb(b"")[:12] + b"\xff" * 4 + b"JSON", "has 4,294,967,295 bytes"),
    "cut.glb": (glb(b"{}")[:-1], "truncated"),
    "deep.glb": (glb(b"[" * 65536), "nested too deeply"),
    "list.glb": (glb(b"[]"), "not a readable .glb"),
    "kinds.glb": (
        glb(b'{"asset": {"extras": {"nerfgen_schema": "mesh/1", "inputs": 3}}}'),
        "its inputs is damaged",
    ),
    "counts.ply": (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999\nend_header\n",
        "not written",
    ),
    "line.ply": (b"ply\n" + b"comment " * 100_000, "not written"),
    "json.ply": (b"ply\ncomment nerfgen {\n", "not valid JSON"),
    "lines.obj": (b"# nerfgen [\n" * 100_000, "nested too deeply"),
    "json.obj": (b"# nerfgen_schema mesh/1\n# parameters {\n", "parameters line 1: not valid JSON"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_meshes_are_one_line(name, call, tmp_path):
    content, says = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        call("info", tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_pipes_and_devices_are_not_read(call, tmp_path):
    os.mkfifo(tmp_path / "pipe.obj")
    (tmp_path / "endless.ply").symlink_to("/dev/zero")
    for name in ("pipe.obj", "endless.ply"):
        with pytest.raises(InputError, match="not a regular file"):
            call("info", tmp_path / name)


def test_several_objects_are_numbered(call, trained, tmp_path, capsys):
    words = ["export", trained, "--rows", "3,0", *RESOLUTION, "-o", tmp_path / "cars" / "car.ply"]
    call(*words, "--faces", 400, "--json")
    told = json.loads(capsys.readouterr().out)["objects"]
    assert [row["object"] for row in told] == ["row 3", "row 0"]
    assert [row["output"][-12:] for row in told] == ["car_0000.ply", "car_0001.ply"]
    assert sorted(path.name for path in (tmp_path / "cars").iterdir()) == ["car_0000.ply", "car_0001.ply"]
    first, second = (reopened(tmp_path / "cars" / f"car_000{number}.ply")[0] for number in (0, 1))
    assert first.shape != second.shape or np.abs(first - second).max() > 0.01
    (tmp_path / "cars" / "car_0001.ply").unlink()
    call(*words, "--faces", 400)
    out = capsys.readouterr()
    assert "car_0000.ply is complete and current; kept" in out.err
    assert out.out.splitlines()[1].startswith("row 0: 400 triangles, ")


def test_objects_that_can_not_be_used_are_told(call, model, trained, tmp_path, capsys):
    codes = tmp_path / "fitted.h5"
    objects = Objects(
        names=["good.jpg", "nobody.jpg"],
        status=["ok", "no_object"],
        rows=np.array([-1, -1]),
        latents=model.latents[:2],
    )
    render_to_file(
        model,
        objects,
        storage.Stage(codes, "views/1", "cars", inputs=[storage.file_record(trained)]),
        cameras=turned_cameras(np.zeros(1), np.zeros(1), model.distance),
        rendering=RenderSettings(size=8, antialias=1),
    )
    words = ["export", trained, "--codes", codes, *RESOLUTION, "-o", tmp_path / "one.glb"]
    call(*words, "--json")
    out = capsys.readouterr()
    assert "fitted.h5:1: no_object; it has no mesh" in out.err
    told = json.loads(out.out)["objects"]
    assert [row["status"] for row in told] == ["ok", "no_object"]
    assert [path.name for path in tmp_path.glob("*.glb")] == ["one_0000.glb"]
    with pytest.raises(UnusableImagesError, match="1 of 2 objects"):
        call(*words, "--strict", "--quiet")
    with pytest.raises(InputError, match=r"no object can be exported.*no_object"):
        call("export", trained, "--codes", f"{codes}:1", "-o", tmp_path / "none.glb")
    assert not (tmp_path / "none.glb").exists()
    # The object of a file is that of the table whose code it has.
    call("export", trained, "--rows", 0, *RESOLUTION, "-o", tmp_path / "row.glb", "--quiet")
    for mine, theirs in zip(reopened(tmp_path / "row.glb"), reopened(tmp_path / "one_0000.glb"), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_tuned_object_is_exported_as_it_was_tuned(model, tmp_path):
    """What was added to the network for a photograph is added for its mesh."""
    bias = model.parameters["foreground"]["outputs"]["bias"]
    delta = {"foreground": {"outputs": {"bias": np.array([0, 9, -9, -9], bias.dtype)}}}
    objects = Objects(["a", "b"], ["ok", "ok"], np.array([-1, -1]), model.latents[[0, 0]], tuned={1: delta})
    stages = {
        number: storage.Stage(tmp_path / f"{number}.ply", mesh.MESH_SCHEMA, "cars") for number in (0, 1)
    }
    assert mesh.write_objects(model, objects, stages, MeshSettings(resolution=32)) == ["ok", "ok"]
    plain, red = (reopened(tmp_path / f"{number}.ply") for number in (0, 1))
    np.testing.assert_array_equal(plain[0], red[0])
    assert red[2][:, 0].min() > 0.9 > plain[2][:, 0].min()
    assert red[2][:, 1:3].max() < 0.1


def test_wrong_words_are_told(call, trained, tmp_path):
    for words, told in (
        (["--rows", 0, "-o", tmp_path / "car.stl"], "car.stl: the name of a mesh ends in .glb, .ply, .obj"),
        (["--rows", 99], "rows 0 to 39 exist"),
        ([], "no objects were selected; give --rows"),
        (["--rows", 0, "--image", "x.jpg"], "--image and --rows exclude each other"),
        (["--rows", 0, "--codes", "x.h5"], "--codes and --rows exclude each other"),
        (["--image", tmp_path], "has no images"),
        (["--rows", 0, "--level", 1e6, *RESOLUTION], "row 0: no_surface, no density reaches the level 1e"),
    ):
        with pytest.raises(InputError, match=told):
            call("export", trained, *words)
    assert list(tmp_path.iterdir()) == []


def test_the_program_writes_a_mesh_beside_the_model(run, trained, tmp_path):
    shutil.copy(trained, tmp_path / "model.h5")
    done = run("export", tmp_path, "--rows", 1, *RESOLUTION)
    assert done.code == 0, done.err
    assert done.out.startswith("row 1: ")
    assert done.out.rstrip().endswith(f"-> {tmp_path / 'mesh.glb'}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mesh.glb", "model.h5"]
    assert "Warning" not in done.err
