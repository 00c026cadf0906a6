"""What processes say: a person's lines, or JSON with whose they are."""

import json
import socket
from collections.abc import Iterator

import pytest

from llmcore import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    handlers, who = list(logs._logger.handlers), dict(logs._who)
    yield
    logs._logger.handlers[:] = handlers
    logs._who.clear()
    logs._who.update(who)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    (line,) = capsys.readouterr().out.splitlines()
    return dict(json.loads(line))


def test_json_carries_who_says_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.FORMAT, raising=False)
    logs.use_json(True)
    logs.about(run="a.pretrain", attempt=2, rank=3, trial=None)
    logs.log("a step of 3 ° was taken", step=7)
    found = said(capsys)
    assert found | {"run": "a.pretrain", "attempt": 2, "rank": 3, "step": 7, "level": "INFO"} == found
    assert found["message"] == "a step of 3 ° was taken" and found["host"] == socket.gethostname()
    assert "trial" not in found and str(found["time"]).endswith("Z")
    logs.about(rank=None)
    logs.log("x")
    assert "rank" not in said(capsys)


def test_no_credential_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    logs.use_json(True)
    try:
        raise ValueError("s3://user:pa55word@host/bucket cannot be read")
    except ValueError as error:
        logs.log(f"it failed: {error}", error=error)
    assert "pa55word" not in capsys.readouterr().out


def test_an_error_has_its_stack(capsys: pytest.CaptureFixture[str]) -> None:
    logs.use_json(True)
    try:
        raise ValueError("bad row")
    except ValueError as error:
        logs.log("it failed", error=error)
    found = said(capsys)
    assert found["level"] == "ERROR" and "test_logs.py" in str(found["trace"]) and "bad row" in str(found["trace"])


def test_lines_are_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT, "text")
    logs.use_json(True)
    assert not logs.as_json()
    logs.about(run="a", attempt=1, rank=1, trial="trial-003")
    logs.log("loads")
    assert capsys.readouterr().out == "[trial-003, rank 1] loads\n"
    monkeypatch.setenv(logs.FORMAT, "json")
    logs.use_json(False)
    assert logs.as_json()


def test_nothing_is_said_where_nobody_wants_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs._logger.handlers.clear()
    logs.log("x")
    assert capsys.readouterr() == ("", "")


def test_what_was_said_in_json_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    logs.use_json(True)
    logs.about(run="a", attempt=1, rank=None, trial=None)
    logs.log("[tune] 2 trials", stage="tune")
    lines = [capsys.readouterr().out.rstrip("\n"), "2026-11-27 INFO ray: started", '{"a": 1}', "{no json", "42", ""]
    assert list(map(logs.readable, lines)) == ["[tune] 2 trials", *lines[1:]]


def test_a_log_is_read_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    logs.use_json(True)
    logs.about(run="a", attempt=1)
    logs.log("first")
    logs.log("second")
    text = capsys.readouterr().out + "and then"
    shown: list[str] = []
    reader = logs.Readable(shown.append)
    for at in range(0, len(text), 7):
        reader(text[at : at + 7])
    assert "".join(shown) == "first\nsecond\n"
    reader.end()
    assert "".join(shown) == "first\nsecond\nand then"
