"""The token of a Ray that is started here is for its user alone."""

from pathlib import Path

import pytest

from cluster.token import keep_token_private


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_is_made_for_the_user_alone(home: Path) -> None:
    keep_token_private()
    token = home / ".ray/auth_token"
    assert (len(token.read_text()), _mode(token), _mode(token.parent)) == (64, 0o600, 0o700)
    assert list(token.parent.iterdir()) == [token]
    before = token.read_text()
    keep_token_private()
    assert token.read_text() == before


def test_one_that_others_may_read_is_taken_back(home: Path) -> None:
    token = home / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("theirs")
    token.chmod(0o644)
    keep_token_private()
    assert (token.read_text(), _mode(token)) == ("theirs", 0o600)


def test_so_is_one_at_another_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = home / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    keep_token_private()
    assert not token.exists() and not (home / ".ray").exists()
    token.write_text("theirs")
    token.chmod(0o664)
    keep_token_private()
    assert _mode(token) == 0o600


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "given"), ("RAY_AUTH_MODE", "disabled")])
def test_where_none_is_needed_none_is_made(home: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    keep_token_private()
    assert not (home / ".ray").exists()
