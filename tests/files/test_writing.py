"""Writing in one step."""

import os
import stat

import pytest

from onnx_shapprune.errors import OutputError
from onnx_shapprune.files.writing import replacing, write_atomically


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"old", b"new", False)
    assert stat.S_IMODE(link.stat().st_mode) & 0o400
    assert {p.name for p in tmp_path.iterdir()} == {"target", "link"}


def test_permissions_of_what_is_replaced_stay(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    for mode in (0o600, 0o640, 0o444):
        path.chmod(mode)
        write_atomically(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
    previous = os.umask(0o027)
    try:
        write_atomically(tmp_path / "fresh", b"new")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


def test_a_link_that_leads_nowhere_or_to_a_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    for target in (outside / "new", outside, "/dev/null"):
        (inside / "link").unlink(missing_ok=True)
        (inside / "link").symlink_to(target)
        write_atomically(inside / "link", b"new")
        assert not (inside / "link").is_symlink()
        assert (inside / "link").read_bytes() == b"new"
    assert list(outside.iterdir()) == []


def test_what_fails_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        write_atomically(tmp_path / "none" / "m.onnx", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "folder", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_stream_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as stream:
            stream.write(b"half of the new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("m.onnx", b"old")]
