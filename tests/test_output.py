"""Writing in one step."""

import stat

import pytest

from onnx_shapprune.errors import OutputError
from onnx_shapprune.output import write_atomically


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"old", b"new", False)
    assert stat.S_IMODE(link.stat().st_mode) & 0o400
    assert {p.name for p in tmp_path.iterdir()} == {"target", "link"}


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file"):
        write_atomically(tmp_path / "none" / "m.onnx", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "folder", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
