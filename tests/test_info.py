"""``nerfgen info``: statuses, and files whose texts are not to be trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from edited import edited

from nerfgen.errors import InputError


@pytest.fixture
def truth(cars: Path, tmp_path: Path) -> Path:
    """A file with three kinds of statuses."""
    path = tmp_path / "truth.h5"
    shutil.copy(cars / "truth.h5", path)
    with edited(path) as file:
        status = ["ok"] * len(file["status"])
        status[1:4] = ["unreadable", "ok_largest", "no_object"]
        file["status"][:] = status
    return path


def test_images_by_status(truth: Path, call, capsys) -> None:
    call("info", truth, "--status", "not-ok")
    assert capsys.readouterr().out == "000001.png\tunreadable\n000003.png\tno_object\n"
    call("info", truth, "--status", "ok_largest,no_object", "--json")
    images = json.loads(capsys.readouterr().out)["images"]
    assert images == [
        {"image": "000002.png", "status": "ok_largest", "reason": ""},
        {"image": "000003.png", "status": "no_object", "reason": ""},
    ]
    call("info", truth, "--status", "bad_mask")
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="--status bad: give not-ok, or some of ok, "):
        call("info", truth, "--status", "bad")
    with pytest.raises(InputError, match="exclude each other"):
        call("info", truth, "--status", "ok", "--command")


def test_reasons(truth: Path, call, capsys) -> None:
    """A file may say more of an image than its status; escapes of terminals are not printed raw."""
    with edited(truth) as file:
        reasons = [""] * len(file["status"])
        reasons[1] = "truncated\x1b[2J\tat byte 7"
        file.create_dataset("reason", data=np.array(reasons, dtype=object), dtype=h5py.string_dtype())
    call("info", truth, "--status", "unreadable")
    assert capsys.readouterr().out == "000001.png\tunreadable\ttruncated\\x1b[2J\\tat byte 7\n"


def test_a_file_without_statuses(trained: Path, call) -> None:
    with pytest.raises(InputError, match="has no statuses"):
        call("info", trained, "--status", "not-ok")


def test_attributes_of_any_kind(truth: Path, call, capsys) -> None:
    with edited(truth) as file:
        file.attrs["note\x1b[31m"] = "\x1b]0;title\x07"
        file.attrs["bytes"] = np.bytes_(b"\xff\x1bx")
        file.attrs["list"] = np.array([b"a", b"\x9b"])
        file.attrs["preset"] = "no JSON"
        file.attrs["nan"] = np.float32("nan")
        file.attrs["flags"] = np.array([[True], [False]])
        file["image"].attrs["description"] = "two\nlines\x1b[0m"
    call("info", truth)
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)
    assert "preset: no JSON\n" in out
    assert "two\\nlines" in out
    call("info", truth, "--json")
    assert json.loads(capsys.readouterr().out)["attributes"]["flags"] == [[True], [False]]
