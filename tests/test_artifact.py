"""The HDF5 files: whole or absent, checked by schema, kept by provenance, joined by path."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

import nerfgen
from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError

IMAGES = ["b/2.jpg", "a/1.jpg", "größe.png"]
ABOUT = {"object_class": "face", "parameters": {"size": 3, "seed": 0}, "inputs": []}


def write_masks(path, about=ABOUT, images=IMAGES, **changes):
    """A small file of the masks schema; ``changes`` replace datasets."""
    values = {
        "image": images,
        "status": ["ok"] * len(images),
        "image_size": np.full((len(images), 2), 8),
        "mask_window": np.zeros((len(images), 3)),
        "mask": np.arange(len(images) * 16).reshape(-1, 4, 4),
    } | changes
    with artifact.create(path, "masks/1", **about) as file:
        for name, value in values.items():
            artifact.put(file, name, value)
    return path


@pytest.fixture
def masks(tmp_path):
    return write_masks(tmp_path / "masks.h5")


def test_what_is_written_is_read_back(masks):
    with artifact.reading(masks, "masks/1") as file:
        assert artifact.strings(file["image"]) == IMAGES
        np.testing.assert_array_equal(file["mask"][:], np.arange(48).reshape(3, 4, 4))
        assert file["mask"].dtype == np.uint8
        assert file["image_size"].attrs["unit"] == "pixel"
        assert file["mask_window"].attrs["frame"] == "photograph"
        assert all(file[name].attrs["description"] for name in file)


def test_root_attributes_tell_where_a_file_comes_from(masks):
    with h5py.File(masks) as file:
        assert set(artifact.ROOT_ATTRIBUTES) <= set(file.attrs)
        assert file.attrs["nerfgen_schema"] == "masks/1"
        assert file.attrs["nerfgen_version"] == nerfgen.__version__
        assert file.attrs["class"] == "face"
        assert json.loads(file.attrs["parameters"]) == {"size": 3, "seed": 0}
        assert json.loads(file.attrs["inputs"]) == []


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def write_and_fail():
        with artifact.create(tmp_path / "masks.h5", "masks/1", **ABOUT) as file:
            artifact.put(file, "image", IMAGES)
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_file_before_it(masks):
    before = masks.read_bytes()
    with pytest.raises(RuntimeError), artifact.create(masks, "masks/1", **ABOUT):
        raise RuntimeError
    assert masks.read_bytes() == before
    assert list(masks.parent.iterdir()) == [masks]


def test_an_incomplete_file_is_never_put_in_place(tmp_path):
    def write_in_part():
        with artifact.create(tmp_path / "masks.h5", "masks/1", **ABOUT) as file:
            for name, value in (("image", IMAGES), ("status", ["ok"] * 3), ("image_size", np.ones((3, 2)))):
                artifact.put(file, name, value)

    with pytest.raises(InputError, match="mask_window"):
        write_in_part()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_output(tmp_path):
    output = tmp_path / "masks.h5"
    script = (
        "import sys, time, pathlib\n"
        "from nerfgen import artifact\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "about = dict(object_class='face', parameters={}, inputs=[])\n"
        "with artifact.create(path, 'masks/1', **about) as file:\n"
        "    artifact.put(file, 'image', ['a'])\n"
        "    file.flush()\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(output)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer:
        assert writer.stdout.readline() == "writing\n"
        unfinished = list(tmp_path.iterdir())
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
    assert not output.exists()
    # What a kill can't clean up is hidden, and a later run is not disturbed by it.
    assert all(path.name.startswith(".") for path in unfinished)
    write_masks(output)
    with artifact.reading(output, "masks/1") as file:
        assert len(file["image"]) == 3


def test_atomic_path_serves_any_writer(tmp_path):
    path = tmp_path / "new" / "picture.png"
    with artifact.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_error_and_no_crash(tmp_path):
    """Files may grow to 20,000 bytes only. HDF5 notices some of it only when it closes the file."""
    script = (
        "import sys, pathlib, resource\n"
        "import numpy as np\n"
        "from nerfgen import artifact\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "noise = np.random.default_rng(0).integers(256, size=(8, 64, 64))\n"
        "about = dict(object_class='face', parameters={}, inputs=[])\n"
        "for rows in range(1, 8):\n"
        "    path = pathlib.Path(sys.argv[1]) / f'{rows}.h5'\n"
        "    try:\n"
        "        with artifact.create(path, 'masks/1', **about) as file:\n"
        "            artifact.put(file, 'image', [str(k) for k in range(rows)])\n"
        "            artifact.put(file, 'status', ['ok'] * rows)\n"
        "            artifact.put(file, 'image_size', np.zeros((rows, 2)))\n"
        "            artifact.put(file, 'mask_window', np.zeros((rows, 3)))\n"
        "            mask = artifact.allocate(file, 'mask', (rows, 64, 64))\n"
        "            for row in range(rows):\n"
        "                mask[row] = noise[row]\n"
        "        print('written')\n"
        "    except OSError as error:\n"
        "        print(pathlib.Path(error.filename).name, error.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    written = told.count("written")
    assert 0 < written < 7
    assert told[written:] == [f"{rows}.h5 File too large" for rows in range(written + 1, 8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{k}.h5" for k in range(1, written + 1)]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "shard-1"
    with artifact.atomic_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"content")
        assert not path.exists()
    assert (path / "sub" / "a").read_bytes() == b"content"
    other = tmp_path / "new" / "shard-2"

    def interrupted():
        with artifact.atomic_folder(other) as folder:
            (folder / "a").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(path.parent.iterdir()) == [path]
    # What a killed process left goes when its place is written, that of another folder does not.
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = [path.with_name(f".{name}.{int(done.stdout)}.partial") for name in ("shard-2", "shard-20")]
    for folder in left:
        (folder / "rgb").mkdir(parents=True)
    with artifact.atomic_folder(other):
        pass
    assert set(path.parent.iterdir()) == {path, other, left[1]}
    artifact.remove_folder(path)
    assert set(path.parent.iterdir()) == {other, left[1]}


def rewrite(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replace(name, value, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, data=value, **options)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda file: file.pop("mask"), "mask"),
        (replace("mask", np.zeros((3, 4, 4), np.float32)), "mask"),
        (replace("mask", np.zeros((3, 16), np.uint8)), "mask"),
        (replace("mask", np.zeros((2, 4, 4), np.uint8)), "mask"),
        (replace("mask_window", np.zeros((3, 4))), "mask_window"),
        (replace("status", np.zeros(3, np.int32)), "status"),
        (lambda file: file.attrs.update(nerfgen_schema="cameras/1"), "cameras/1"),
        (lambda file: file.attrs.update(nerfgen_schema="masks/99"), "masks/99"),
        (lambda file: file.attrs.pop("nerfgen_schema"), "no nerfgen file"),
    ],
)
def test_a_file_that_breaks_its_schema_is_refused(masks, change, named):
    rewrite(masks, change)
    with (
        pytest.raises(InputError, match=f"masks.h5.*{named}"),
        artifact.reading(masks, "masks/1"),
    ):
        pass


def test_a_truncated_file_is_refused(masks):
    masks.write_bytes(masks.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"masks\.h5"), artifact.reading(masks, "masks/1"):
        pass


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all" * 200])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    path = tmp_path / "masks.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"masks\.h5.*HDF5"), artifact.reading(path, "masks/1"):
        pass


def test_a_missing_file_is_told_with_the_command_that_makes_it(tmp_path):
    with (
        pytest.raises(InputError, match=r"none\.h5 does not exist.*`nerfgen segment photos`"),
        artifact.reading(tmp_path / "none.h5", "masks/1", made_by="nerfgen segment photos"),
    ):
        pass


def test_equal_content_gives_equal_bytes_whenever_and_wherever(tmp_path):
    first = write_masks(tmp_path / "masks.h5")
    time.sleep(1.1)  # HDF5's own time stamps have seconds
    second = write_masks(tmp_path / "elsewhere" / "masks.h5")
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


def test_compressed_arrays_are_the_same_bytes_too(tmp_path):
    mask = np.random.default_rng(0).integers(0, 255, (3, 256, 256))
    first = write_masks(tmp_path / "1.h5", mask=mask)
    second = write_masks(tmp_path / "2.h5", mask=mask)
    assert first.read_bytes() == second.read_bytes()
    with artifact.reading(first, "masks/1") as file:
        np.testing.assert_array_equal(file["mask"][:], mask)
        assert file["mask"].chunks == (1, 256, 256), "one image must be readable without the others"


def test_datasets_can_be_filled_item_by_item(tmp_path):
    with artifact.create(tmp_path / "m.h5", "masks/1", **ABOUT) as file:
        mask = artifact.allocate(file, "mask", (3, 300, 300))
        for row in range(3):
            mask[row] = row
        for name, value in (("image", IMAGES), ("status", ["ok"] * 3)):
            artifact.put(file, name, value)
        artifact.put(file, "image_size", np.ones((3, 2)))
        artifact.put(file, "mask_window", np.ones((3, 3)))
    with artifact.reading(tmp_path / "m.h5", "masks/1") as file:
        np.testing.assert_array_equal(file["mask"][:, 5, 7], [0, 1, 2])


def record(name, content):
    return {"file": name, "size": 1, "sha256": content}


def test_nothing_there_is_not_current(tmp_path):
    assert not artifact.is_current(tmp_path / "none.h5", "masks/1", **ABOUT)


def test_an_equal_output_is_kept_and_overwrite_replaces_it(masks):
    assert artifact.is_current(masks, "masks/1", **ABOUT)
    assert not artifact.is_current(masks, "masks/1", **ABOUT, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": {"size": 4, "seed": 0}}, r"parameter size \(3, now 4\)"),
        ({"parameters": {"size": 3}}, "parameter seed"),
        ({"parameters": {"size": 3, "seed": 0, "more": 1}}, "parameter more"),
        ({"object_class": "cars"}, "class"),
        ({"inputs": [record("cameras.h5", "ff")]}, r"input cameras\.h5"),
    ],
)
def test_another_output_is_refused_by_naming_the_difference(masks, changes, named):
    with pytest.raises(OutputExistsError, match=named) as caught:
        artifact.is_current(masks, "masks/1", **(ABOUT | changes))
    assert "--overwrite" in str(caught.value)
    assert str(masks) in str(caught.value)


def test_a_changed_input_is_a_difference(tmp_path):
    source = tmp_path / "cameras.h5"
    source.write_bytes(b"one")
    path = write_masks(tmp_path / "masks.h5", ABOUT | {"inputs": [artifact.file_record(source)]})
    assert artifact.is_current(path, "masks/1", **(ABOUT | {"inputs": [artifact.file_record(source)]}))
    source.write_bytes(b"two")
    with pytest.raises(OutputExistsError, match=r"input cameras\.h5"):
        artifact.is_current(path, "masks/1", **(ABOUT | {"inputs": [artifact.file_record(source)]}))


def test_inputs_of_one_name_are_told_apart(tmp_path):
    def about(*contents):
        return ABOUT | {"inputs": [record("samples.h5", content) for content in contents]}

    path = write_masks(tmp_path / "masks.h5", about("aa", "bb"))
    assert artifact.is_current(path, "masks/1", **about("aa", "bb"))
    for changed in (("aa", "cc"), ("cc", "bb"), ("aa",), ("aa", "bb", "cc")):
        with pytest.raises(OutputExistsError, match=r"input samples\.h5"):
            artifact.is_current(path, "masks/1", **about(*changed))


def test_another_schema_and_foreign_files_are_refused(masks, tmp_path):
    with pytest.raises(OutputExistsError, match="schema"):
        artifact.is_current(masks, "cameras/1", **ABOUT)
    foreign = tmp_path / "foreign.h5"
    foreign.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="HDF5"):
        artifact.is_current(foreign, "masks/1", **ABOUT)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(OutputExistsError, match="not written by nerfgen"):
        artifact.is_current(tmp_path / "other.h5", "masks/1", **ABOUT)
    assert foreign.read_bytes() == b"mine"


def test_digests_are_those_of_sha256sum(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert artifact.file_digest(path) == (
        3,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert artifact.file_record(path)["file"] == "x"


def test_a_folders_digest_follows_names_and_contents():
    one = artifact.folder_record(["a", "b"], [(1, "00"), (2, "11")])
    assert one == artifact.folder_record(["a", "b"], [(1, "00"), (2, "11")])
    assert one["count"] == 2
    assert one["size"] == 3
    others = [
        artifact.folder_record(["a", "c"], [(1, "00"), (2, "11")]),
        artifact.folder_record(["a", "b"], [(1, "00"), (2, "12")]),
        artifact.folder_record(["b", "a"], [(1, "00"), (2, "11")]),
    ]
    assert len({record["sha256"] for record in [one, *others]}) == 4


def test_files_join_by_path_not_by_position():
    rng = np.random.default_rng(0)
    names = [f"{k % 3}/{k:03d}.png" for k in range(60)]
    wanted, present = list(rng.permutation(names)[:40]), list(rng.permutation(names)[:50])
    found = artifact.positions(wanted, present)
    for name, position in zip(wanted, found, strict=True):
        if position >= 0:
            assert present[position] == name
        else:
            assert name not in present
    assert (found >= 0).sum() == len(set(wanted) & set(present))


def test_only_usable_statuses_are_used():
    used = artifact.usable(["ok", "no_object", "ok_largest", "unreadable"])
    np.testing.assert_array_equal(used, [True, False, True, False])
    assert not artifact.usable([]).any()
    assert set(artifact.USABLE) <= set(artifact.STATUSES)


def test_trees_of_arrays_come_back(tmp_path):
    tree = {
        "b": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "deep": {"x": np.int32(4)}},
        "a": {"bias": np.zeros(0)},
    }
    with h5py.File(tmp_path / "t.h5", "w") as file:
        artifact.put_tree(file.create_group("field"), tree)
        found = artifact.get_tree(file["field"])
    assert found.keys() == tree.keys()
    np.testing.assert_array_equal(found["b"]["kernel"], tree["b"]["kernel"])
    assert found["b"]["kernel"].dtype == np.float32
    assert found["b"]["deep"]["x"] == 4
    assert found["a"]["bias"].shape == (0,)


def test_every_schema_describes_every_dataset():
    for schema in artifact.SCHEMAS.values():
        names = [dataset.name for dataset in schema.datasets]
        assert len(set(names)) == len(names)
        assert all(dataset.description for dataset in schema.datasets)
