"""The HDF5 files: whole or absent, checked by schema, kept by provenance, joined by path."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from edited import edited

import nerfgen
from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.storage.seal import write_seal

IMAGES = ["b/2.jpg", "a/1.jpg", "größe.png"]


def masks_stage(path, **changes):
    return storage.Stage(path, "masks/1", "face", **({"parameters": {"size": 3, "seed": 0}} | changes))


def write_masks(path, stage=None, images=IMAGES, **changes):
    """A small file of the masks schema; ``changes`` replace datasets."""
    values = {
        "image": images,
        "status": ["ok"] * len(images),
        "image_size": np.full((len(images), 2), 8),
        "mask_window": np.ones((len(images), 3)),
        "mask": np.arange(len(images) * 16).reshape(-1, 4, 4),
    } | changes
    with (stage or masks_stage(path)).create() as file:
        for name, value in values.items():
            storage.put(file, name, value)
    return path


@pytest.fixture
def masks(tmp_path):
    return write_masks(tmp_path / "masks.h5")


def test_what_is_written_is_read_back(masks):
    with storage.reading(masks, "masks/1") as file:
        assert storage.strings(file["image"]) == IMAGES
        np.testing.assert_array_equal(file["mask"][:], np.arange(48).reshape(3, 4, 4))
        assert file["mask"].dtype == np.uint8
        assert file["image_size"].attrs["unit"] == "pixel"
        assert file["mask_window"].attrs["frame"] == "image"
        assert all(file[name].attrs["description"] for name in file)


@pytest.mark.parametrize(
    ("shape", "named"),
    [((3, 0, 4), r"dataset mask is uint8 \(3, 0, 4\)"), ((3, 256, 10**8), r"arrays take [\d,]+ bytes")],
)
def test_images_without_pixels_and_of_more_than_the_memory_are_refused(masks, shape, named):
    with h5py.File(masks, "r+") as file:
        del file["mask"]
        file.create_dataset("mask", shape, np.uint8, chunks=None if 0 in shape else (1, 64, 64))
    write_seal(masks)
    with pytest.raises(InputError, match=named), storage.reading(masks, "masks/1"):
        pass


def test_root_attributes_tell_where_a_file_comes_from(masks):
    with h5py.File(masks) as file:
        assert set(storage.ROOT_ATTRIBUTES) <= set(file.attrs)
        assert file.attrs["nerfgen_schema"] == "masks/1"
        assert file.attrs["nerfgen_version"] == nerfgen.__version__
        assert file.attrs["class"] == "face"
        assert json.loads(file.attrs["parameters"]) == {"size": 3, "seed": 0}
        assert json.loads(file.attrs["inputs"]) == []


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def write_and_fail():
        with masks_stage(tmp_path / "masks.h5").create() as file:
            storage.put(file, "image", IMAGES)
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_file_before_it(masks):
    before = masks.read_bytes()
    with pytest.raises(RuntimeError), masks_stage(masks).create():
        raise RuntimeError
    assert masks.read_bytes() == before
    assert list(masks.parent.iterdir()) == [masks]


def test_an_incomplete_file_is_never_put_in_place(tmp_path):
    def write_in_part():
        with masks_stage(tmp_path / "masks.h5").create() as file:
            for name, value in (("image", IMAGES), ("status", ["ok"] * 3), ("image_size", np.ones((3, 2)))):
                storage.put(file, name, value)

    with pytest.raises(InputError, match="mask_window"):
        write_in_part()
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, pathlib
from nerfgen import storage
from nerfgen.storage import atomic
path, kind, kernel = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if kernel:
    atomic.kernel = lambda: kernel
with getattr(storage, kind)(path) as temporary:
    (temporary / "a" if kind == "atomic_folder" else temporary).write_bytes(b"from the other process")
    print(temporary, flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def other_writer(path, kind, kernel=""):
    """Another process in the middle of writing ``path``; gives the process and its temporary path."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), kind, kernel],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def write(path, kind):
    with getattr(storage, kind)(path) as temporary:
        (temporary / "a" if kind == "atomic_folder" else temporary).write_bytes(b"from this process")


def age(path, days):
    moment = time.time() - days * 24 * 3600
    os.utime(path, (moment, moment))


KINDS = pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder"])


@KINDS
def test_what_a_killed_writer_left_goes_with_the_next_writer(tmp_path, kind):
    path = tmp_path / "output.h5"
    with other_writer(path, kind) as (process, left):
        process.kill()
        process.wait(30)
        assert not path.exists()
        assert left.exists()
        assert left.name.startswith(".")
        write(path.with_name("output2.h5"), kind)
        assert left.exists(), "it belongs to another output"
        write(path, kind)
    assert sorted(tmp_path.iterdir()) == [path, path.with_name("output2.h5")]


@KINDS
@pytest.mark.parametrize("kernel", ["", "0badcafe"])
def test_a_living_writer_is_not_disturbed_even_by_one_of_its_process_number(
    tmp_path, kind, kernel, monkeypatch
):
    path = tmp_path / "output.h5"
    with other_writer(path, kind, kernel) as (process, temporary):
        # In containers on one folder every process may have the same number.
        monkeypatch.setattr(os, "getpid", lambda: process.pid)
        age(temporary, days=30)
        write(path, kind)
        assert temporary.exists()
        if kind == "atomic_folder":
            storage.remove_folder(path)
        _, error = process.communicate("\n", timeout=30)
        assert process.returncode == 0, error
    written = path / "a" if kind == "atomic_folder" else path
    assert written.read_bytes() == b"from the other process"
    assert list(tmp_path.iterdir()) == [path]


@KINDS
def test_the_locks_of_another_host_may_be_unseen_so_its_files_must_be_old(tmp_path, kind):
    path = tmp_path / "output.h5"
    with other_writer(path, kind, "0badcafe") as (process, left):
        process.kill()
        process.wait(30)
        for days, stays in ((0, True), (6, True), (8, False)):
            age(left, days)
            write(path, kind)
            assert left.exists() == stays
            if kind == "atomic_folder":
                storage.remove_folder(path)


def test_a_published_file_can_be_read_at_once(tmp_path):
    """The lock of its writer must not keep the HDF5 library out."""
    path = write_masks(tmp_path / "masks.h5")
    with storage.atomic_path(tmp_path / "copy.h5") as temporary:
        temporary.write_bytes(path.read_bytes())
        with storage.reading(temporary, "masks/1"):
            pass


def test_atomic_path_serves_any_writer(tmp_path):
    path = tmp_path / "new" / "picture.png"
    with storage.atomic_path(path) as temporary:
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
        "from nerfgen import storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "noise = np.random.default_rng(0).integers(256, size=(8, 64, 64))\n"
        "for rows in range(1, 8):\n"
        "    path = pathlib.Path(sys.argv[1]) / f'{rows}.h5'\n"
        "    try:\n"
        "        with storage.Stage(path, 'masks/1', 'face').create() as file:\n"
        "            storage.put(file, 'image', [str(k) for k in range(rows)])\n"
        "            storage.put(file, 'status', ['ok'] * rows)\n"
        "            storage.put(file, 'image_size', np.zeros((rows, 2)))\n"
        "            storage.put(file, 'mask_window', np.zeros((rows, 3)))\n"
        "            mask = storage.allocate(file, 'mask', (rows, 64, 64))\n"
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
    with storage.atomic_folder(path) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"content")
        assert not path.exists()
    assert (path / "sub" / "a").read_bytes() == b"content"
    other = tmp_path / "new" / "shard-2"

    def interrupted():
        with storage.atomic_folder(other) as folder:
            (folder / "a").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(path.parent.iterdir()) == [path]
    storage.remove_folder(path)
    assert list(path.parent.iterdir()) == []


def rewrite(path, change):
    with edited(path) as file:
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
        (lambda file: file.attrs.pop("nerfgen_schema"), "not a nerfgen file"),
    ],
)
def test_a_file_that_breaks_its_schema_is_refused(masks, change, named):
    rewrite(masks, change)
    with (
        pytest.raises(InputError, match=f"masks.h5.*{named}"),
        storage.reading(masks, "masks/1"),
    ):
        pass


def test_a_truncated_file_is_refused(masks):
    masks.write_bytes(masks.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"masks\.h5"), storage.reading(masks, "masks/1"):
        pass


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all" * 200])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    path = tmp_path / "masks.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"masks\.h5.*HDF5"), storage.reading(path, "masks/1"):
        pass


def test_a_missing_file_is_told_with_the_command_that_makes_it(tmp_path):
    with (
        pytest.raises(InputError, match=r"none\.h5 does not exist.*`nerfgen segment photos`"),
        storage.reading(tmp_path / "none.h5", "masks/1", made_by="nerfgen segment photos"),
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
    with storage.reading(first, "masks/1") as file:
        np.testing.assert_array_equal(file["mask"][:], mask)
        assert file["mask"].chunks == (1, 256, 256), "one image must be readable without the others"


def test_datasets_can_be_filled_item_by_item(tmp_path):
    with masks_stage(tmp_path / "m.h5").create() as file:
        mask = storage.allocate(file, "mask", (3, 300, 300))
        for row in range(3):
            mask[row] = row
        for name, value in (("image", IMAGES), ("status", ["ok"] * 3)):
            storage.put(file, name, value)
        storage.put(file, "image_size", np.ones((3, 2)))
        storage.put(file, "mask_window", np.ones((3, 3)))
    with storage.reading(tmp_path / "m.h5", "masks/1") as file:
        np.testing.assert_array_equal(file["mask"][:, 5, 7], [0, 1, 2])


def record(name, content):
    return {"file": name, "size": 1, "sha256": content}


def test_nothing_there_is_not_current(tmp_path):
    assert not masks_stage(tmp_path / "none.h5").is_current()


def test_an_equal_output_is_kept_and_overwrite_replaces_it(masks):
    assert masks_stage(masks).is_current()
    assert not masks_stage(masks).is_current(overwrite=True)


def test_what_a_killed_run_with_overwrite_left_goes_when_the_output_is_kept(masks):
    journal = masks.with_name(f".{masks.name}.journal")
    journal.write_bytes(b"begun")
    with other_writer(masks, "atomic_path") as (process, left):
        assert masks_stage(masks).is_current()
        assert left.exists(), "it is still written"
        process.kill()
        process.wait(30)
        assert masks_stage(masks).is_current()
        assert not left.exists()
    assert list(masks.parent.iterdir()) == [masks]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": {"size": 4, "seed": 0}}, "parameter size: 3 in the file, 4 now"),
        ({"parameters": {"size": 3}}, "parameter seed: 0 in the file, none now"),
        ({"parameters": {"size": 3, "seed": 0, "more": 1}}, "parameter more"),
        ({"object_class": "cars"}, "class: face in the file, cars now"),
        ({"inputs": [record("cameras.h5", "ff")]}, r"input cameras\.h5"),
        ({"version": 2}, r"an older version of this stage \(1, now 2\)"),
        ({"schema": "cameras/1"}, "schema"),
    ],
)
def test_another_output_is_refused_by_naming_the_difference(masks, changes, named):
    with pytest.raises(OutputExistsError, match=named) as caught:
        dataclasses.replace(masks_stage(masks), **changes).is_current()
    assert "`overwrite`" in str(caught.value)
    assert str(masks) in str(caught.value)


def test_the_remedy_of_an_error_is_the_one_that_helps(masks, tmp_path):
    with pytest.raises(OutputExistsError, match="start without `resume`") as caught:
        masks_stage(masks, version=2).is_current(remedy="start without `resume`")
    assert "overwrite" not in str(caught.value)
    (tmp_path / "folder.h5").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="is a folder; choose another `output`"):
            masks_stage(tmp_path / "folder.h5").is_current(overwrite=overwrite)


def test_a_changed_input_is_a_difference(tmp_path):
    source = tmp_path / "cameras.h5"
    source.write_bytes(b"one")
    stage = masks_stage(tmp_path / "masks.h5", inputs=[storage.file_record(source)])
    write_masks(stage.output, stage)
    assert stage.is_current()
    source.write_bytes(b"two")
    with pytest.raises(OutputExistsError, match=r"input cameras\.h5"):
        dataclasses.replace(stage, inputs=[storage.file_record(source)]).is_current()


def test_inputs_of_one_name_are_told_apart(tmp_path):
    def stage(*contents):
        return masks_stage(
            tmp_path / "masks.h5", inputs=[record("samples.h5", content) for content in contents]
        )

    write_masks(tmp_path / "masks.h5", stage("aa", "bb"))
    assert stage("aa", "bb").is_current()
    for changed in (("aa", "cc"), ("cc", "bb"), ("aa",), ("aa", "bb", "cc")):
        with pytest.raises(OutputExistsError, match=r"input samples\.h5"):
            stage(*changed).is_current()


def test_a_newer_version_of_a_stage_makes_its_outputs_stale(tmp_path):
    old, new = masks_stage(tmp_path / "masks.h5"), masks_stage(tmp_path / "masks.h5", version=2)
    write_masks(new.output, new)
    assert new.is_current()
    with pytest.raises(OutputExistsError, match="a newer version"):
        old.is_current()
    # Files of before versions were recorded count as those of the first.
    write_masks(old.output, old)
    with edited(old.output) as file:
        del file.attrs["stage_version"]
    assert old.is_current()
    with pytest.raises(OutputExistsError, match="an older version"):
        new.is_current()


def test_foreign_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.h5"
    foreign.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="HDF5"):
        masks_stage(foreign).is_current()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(OutputExistsError, match="not written by nerfgen"):
        masks_stage(tmp_path / "other.h5").is_current()
    assert foreign.read_bytes() == b"mine"


def test_an_unchanged_file_is_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "model.h5"
    path.write_bytes(b"abc")
    age(path, days=1)
    first = storage.file_digest(path)
    monkeypatch.setattr("hashlib.sha256", lambda: pytest.fail("read again"))
    assert storage.file_digest(path) == first
    monkeypatch.undo()
    for content in (b"abd", b"abe"):  # of one size, within the clock's resolution
        path.write_bytes(content)
        assert storage.file_digest(path)[1] == hashlib.sha256(content).hexdigest()


def test_digests_are_those_of_sha256sum(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert storage.file_digest(path) == (
        3,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )
    assert storage.file_record(path)["file"] == "x"


def test_a_folders_digest_follows_names_and_contents():
    one = storage.folder_record(["a", "b"], [(1, "00"), (2, "11")])
    assert one == storage.folder_record(["a", "b"], [(1, "00"), (2, "11")])
    assert one["count"] == 2
    assert one["size"] == 3
    others = [
        storage.folder_record(["a", "c"], [(1, "00"), (2, "11")]),
        storage.folder_record(["a", "b"], [(1, "00"), (2, "12")]),
        storage.folder_record(["b", "a"], [(1, "00"), (2, "11")]),
    ]
    assert len({record["sha256"] for record in [one, *others]}) == 4


def test_files_join_by_path_not_by_position():
    rng = np.random.default_rng(0)
    names = [f"{k % 3}/{k:03d}.png" for k in range(60)]
    wanted, present = list(rng.permutation(names)[:40]), list(rng.permutation(names)[:50])
    found = storage.positions(wanted, present)
    for name, position in zip(wanted, found, strict=True):
        if position >= 0:
            assert present[position] == name
        else:
            assert name not in present
    assert (found >= 0).sum() == len(set(wanted) & set(present))


def test_only_usable_statuses_are_used():
    used = storage.usable(["ok", "no_object", "ok_largest", "unreadable"])
    np.testing.assert_array_equal(used, [True, False, True, False])
    assert not storage.usable([]).any()
    assert set(storage.USABLE) <= set(storage.STATUSES)


def test_trees_of_arrays_come_back(tmp_path):
    tree = {
        "b": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "deep": {"x": np.int32(4)}},
        "a": {"bias": np.zeros(0)},
    }
    with h5py.File(tmp_path / "t.h5", "w") as file:
        storage.put_tree(file.create_group("field"), tree)
        found = storage.get_tree(file["field"])
    assert found.keys() == tree.keys()
    np.testing.assert_array_equal(found["b"]["kernel"], tree["b"]["kernel"])
    assert found["b"]["kernel"].dtype == np.float32
    assert found["b"]["deep"]["x"] == 4
    assert found["a"]["bias"].shape == (0,)


def test_every_schema_describes_every_dataset():
    for schema in storage.SCHEMAS.values():
        names = [dataset.name for dataset in schema.datasets]
        assert len(set(names)) == len(names)
        assert all(dataset.description for dataset in schema.datasets)


def numbered(images, seen):
    """What a stage may find in images: arrays and values that depend on their content."""
    for image in images:
        seen.append(image.name)
        content = image.read_bytes()
        row = {
            "status": "ok",
            "score": np.float32(content[0] / 3),
            "mask": None,
            "points": np.full(3, content[0]),
        }
        yield row, (len(content), hashlib.sha256(content).hexdigest())


def run_stage(stage, images, *, stop_at=None, seen=None):
    """Process images with a journal; an error at image ``stop_at``. Gives the rows."""
    names, found = [image.name for image in images], []
    with stage.journal() as journal:
        rows = journal.rows(
            names,
            lambda chosen: [storage.file_digest(images[0].parent / name) for name in chosen],
            lambda indices: numbered([images[k] for k in indices], seen if seen is not None else []),
        )
        for index, row in enumerate(rows):
            found.append(row)
            if index == stop_at:
                raise KeyboardInterrupt
    return found


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / "in" / f"{k}.png" for k in range(6)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number + 1, 7]))
    return paths


def same_rows(one, other):
    assert len(one) == len(other)
    for (row, digest), (expected, expected_digest) in zip(one, other, strict=True):
        assert tuple(digest) == expected_digest
        assert row.keys() == expected.keys()
        for name, value in row.items():
            np.testing.assert_array_equal(value, expected[name])


def test_a_stopped_stage_goes_on_with_what_is_not_finished(tmp_path, images):
    stage, seen = masks_stage(tmp_path / "masks.h5"), []
    whole = run_stage(masks_stage(tmp_path / "other.h5"), images)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, images, stop_at=3)
    images[1].write_bytes(b"\x09\x07\x01")  # a changed image is done again, and a new one comes first
    new = images[0].with_name("!.png")
    new.write_bytes(b"\x14")
    found = run_stage(stage, [new, *images], seen=seen)
    assert seen == ["!.png", "1.png", "4.png", "5.png"]
    whole[1] = next(numbered([images[1]], []))
    same_rows(found[1:], whole)
    assert list(tmp_path.iterdir()) == [images[0].parent], "finished: the journal is gone"


def test_a_journal_of_another_stage_is_not_used(tmp_path, images):
    path = tmp_path / "masks.h5"
    for other in (
        {"version": 2},
        {"parameters": {"size": 4}},
        {"inputs": [record("cameras.h5", "ff")]},
        {"object_class": "cars"},
    ):
        with pytest.raises(KeyboardInterrupt):
            run_stage(dataclasses.replace(masks_stage(path), **other), images, stop_at=3)
        seen = []
        run_stage(masks_stage(path), images, seen=seen)
        assert len(seen) == len(images)


def test_half_a_record_at_the_end_of_a_journal_is_cut_off(tmp_path, images):
    stage, whole = masks_stage(tmp_path / "masks.h5"), run_stage(masks_stage(tmp_path / "other.h5"), images)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, images, stop_at=3)
    (journal,) = tmp_path.glob(".*.journal")
    content = journal.read_bytes()
    for damaged in (
        content[:-1],
        content[:-30],
        content + b"\x01",
        content[:-3] + b"\x00\x01\x02",
        content[:10],
    ):
        journal.write_bytes(damaged)
        with pytest.raises(KeyboardInterrupt):
            run_stage(stage, images, stop_at=4)
        same_rows(run_stage(stage, images), whole)
        journal.write_bytes(content)


def test_two_runs_with_one_journal_do_not_mix(tmp_path, images):
    stage, seen = masks_stage(tmp_path / "masks.h5"), []
    with stage.journal():
        same_rows(run_stage(stage, images, seen=seen), run_stage(masks_stage(tmp_path / "other.h5"), images))
    assert len(seen) == len(images)
    assert not list(tmp_path.glob(".*"))


def test_the_first_difference_is_that_of_the_stages_own_order(tmp_path):
    stage = masks_stage(tmp_path / "masks.h5", parameters={"size": 4, "a_consequence": 5})
    write_masks(stage.output, stage)
    with pytest.raises(OutputExistsError, match="parameter size: 4 in the file, 6 now"):
        dataclasses.replace(stage, parameters={"size": 6, "a_consequence": 7}).is_current()
