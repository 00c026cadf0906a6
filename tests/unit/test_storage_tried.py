"""What a storage is found to do, of storages that do it and of some that do not."""

import errno
import os
from pathlib import Path

import pytest

from llmcore.storage import Folder
from llmcore.storage.tried import Tried, try_out


def troubles(tried: list[Tried]) -> dict[str, str]:
    return {one.operation: one.trouble for one in tried if one.trouble}


@pytest.mark.parametrize("url", ["{tmp}/new/folder", "memory://tried/folder"])
def test_a_good_storage_does_it_all_and_keeps_nothing(url: str, tmp_path: Path) -> None:
    folder = Folder(url.format(tmp=tmp_path))
    tried = try_out(folder)
    assert [one.operation for one in tried] == ["write", "read", "list", "create", "delete"]
    assert troubles(tried) == {} and all(one.seconds < 5 for one in tried)
    assert folder.names() == []


def test_a_place_that_cannot_be_written_to_tells_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = troubles(try_out(Folder(str(tmp_path / "file"))))
    assert {"write", "read", "create"} <= found.keys() and os.strerror(errno.EEXIST) in found["write"]


def test_a_storage_that_ignores_conditions_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some S3 servers, which answer a conditional write as any other."""
    monkeypatch.setattr(Folder, "create_unseen", lambda self, name, data: self.write_bytes(name, data) or True)
    found = troubles(try_out(Folder(str(tmp_path))))
    assert found.keys() == {"create"} and "replaces a file" in found["create"]


def test_a_storage_that_lists_late_or_keeps_what_is_deleted_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "names", lambda self: [])
    assert troubles(try_out(Folder(str(tmp_path)))).keys() == {"list"}
    monkeypatch.undo()
    monkeypatch.setattr(Folder, "delete", lambda self, name="": None)
    assert troubles(try_out(Folder(str(tmp_path)))).keys() == {"delete"}
