"""`python -m jobs generate`: a prompt, standard input, a file, a conversation, and what is wrong with them."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from jobs.__main__ import main
from jobs.runtime.typed import TypedOut, sure_part
from llmcore.config.generation import GenerationSettings
from llmcore.models.generation import Generator
from tests.writers import write_writer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a run that has a model; its tokenizer has a chat template. Beside it, one without."""
    root = tmp_path_factory.mktemp("runs")
    folder = write_writer(root / "tiny" / "model", "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    write_writer(root / "plain" / "model", "gpt2")
    (root / "empty" / "attempts").mkdir(parents=True)
    return root


@pytest.fixture
def command(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m jobs generate ARGUMENTS`: exit code, standard output, standard error."""
    monkeypatch.setattr("jobs.cli.quiet", lambda verbose: None)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(["generate", *arguments, "--storage", str(models)])
        signal.signal(signal.SIGTERM, before)
        return code, *capsys.readouterr()

    return run


def answer(models: Path, prompt: str, name: str = "plain", **changes: Any) -> str:
    generator = Generator.load(models / name / "model")
    settings = GenerationSettings(**{"max_new_tokens": 9} | changes)
    return generator.generate(generator.encode([prompt]), settings).answers[0][0].text


def test_a_prompt_is_answered_by_a_run_a_path_and_from_standard_input(command: Command, models: Path) -> None:
    told = answer(models, "open the path") + "\n"
    assert command("plain", "max_new_tokens=9", "--prompt", "open the path")[:2] == (0, told)
    assert command(str(models / "plain"), "max_new_tokens=9", "--prompt", "open the path")[:2] == (0, told)
    assert command(str(models / "plain/model"), "max_new_tokens=9", stdin="open the path")[:2] == (0, told)


def test_settings_are_given_as_overrides(command: Command, models: Path) -> None:
    how = {"method": "sample", "top_p": 0.9, "num_samples": 2, "seed": 3}
    code, out, _ = command(
        "plain", "max_new_tokens=9", *(f"{key}={value}" for key, value in how.items()), "--prompt", "open"
    )
    assert code == 0
    assert out.startswith(answer(models, "open", **how) + "\n")


def test_a_file_is_answered_row_by_row_and_keeps_what_else_a_row_has(
    command: Command, models: Path, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "open the path", "id": 7}, {"prompt": "é"}]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    output = tmp_path / "told" / "answers.jsonl"
    code, out, _ = command(
        "plain", "max_new_tokens=9", "--file", str(tmp_path / "asked.jsonl"), "--output", str(output)
    )
    assert code == 0
    assert out.startswith("generate: answers to 2 prompts")
    told = [json.loads(line) for line in output.read_text().splitlines()]
    assert [{key: row[key] for key in row if key != "answers"} for row in told] == rows
    for row in told:
        [given] = row["answers"]
        assert given["text"] == answer(models, row["prompt"])
        assert (given["num_tokens"], given["reason"]) == (9, "length")
        assert given["log_likelihood"] < 0


def test_a_conversation_goes_through_the_template_with_all_that_was_said(command: Command, models: Path) -> None:
    code, out, _ = command("tiny", "max_new_tokens=6", "--chat", stdin="open\n\nclose\n")
    generator = Generator.load(models / "tiny" / "model")
    settings = GenerationSettings(max_new_tokens=6, stop=["<|im_end|>"])
    said: list[dict[str, str]] = []
    told = []
    for line in ("open", "close"):
        said.append({"role": "user", "content": line})
        ids = generator.tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
        [[given]] = generator.generate([ids], settings).answers
        said.append({"role": "assistant", "content": given.text})
        told.append(given.text)
    assert (code, out) == (0, "".join(f"{text}\n" for text in told))


def test_a_file_of_conversations_is_answered_by_the_template_too(command: Command, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"messages": [{"role": "user", "content": "open"}]}\n')
    output = tmp_path / "answers.jsonl"
    asked = ("max_new_tokens=4", "--file", str(tmp_path / "asked.jsonl"), "--output", str(output))
    assert command("tiny", *asked)[0] == 0
    assert len(json.loads(output.read_text())["answers"]) == 1
    code, _, err = command("plain", *asked)
    assert (code, "has `messages`, and the tokenizer no chat template" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plain", "--prompt", "a", "--chat"], "got several of --prompt, --file and --chat"),
        (["plain", "--file", "a.jsonl"], "expected both, or none"),
        (["plain", "--prompt", ""], "the prompt is empty: give --prompt TEXT"),
        (["plain"], "the prompt is empty"),
        (["plan", "--prompt", "a"], "did you mean plain?"),
        (["empty", "--prompt", "a"], "has no model/: let it end, or make one of a checkpoint"),
        (["plain", "temperature=0.5", "--prompt", "a"], "temperature=0.5 says nothing to method=greedy"),
        (["plain", "method=beams", "--prompt", "a"], "method=beams"),
        (["plain", "top_q=0.5", "--prompt", "a"], "did you mean top_p?"),
        (["plain", "stop=['']", "--prompt", "a"], "stop='' stands everywhere"),
        (["plain", "max_new_tokens=64", "--prompt", "a"], "leaves no room for a prompt in the 64 positions"),
        (["plain", "--chat"], "has no chat template"),
        (["plain", "--file", "/no/file.jsonl", "--output", "o"], "/no/file.jsonl does not exist"),
        (["plain", "--prompt", "a", "--engine", "other"], "'other' is not one of"),
    ],
)
def test_what_is_wrong_is_one_message_and_2(command: Command, arguments: list[str], words: str) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert words in err.splitlines()[-1]
    assert err.count("error: ") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "asked.jsonl:2: not JSON"),
        ('{"text": "a"}', 'asked.jsonl:2: got {"text": "a"}; expected an object with `prompt`'),
        ('{"prompt": ""}', "asked.jsonl:2: got"),
        ('{"messages": [{"role": "user"}]}', "asked.jsonl:2: got"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(command: Command, tmp_path: Path, line: str, words: str) -> None:
    asked, output = tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    asked.write_text('{"prompt": "a"}\n' + line + "\n")
    code, _, err = command("plain", "--file", str(asked), "--output", str(output))
    assert code == 2
    assert words in err
    assert not output.exists()


def test_what_is_typed_is_sure() -> None:
    assert sure_part("a stop", ["top", "xyz"]) == "a s"
    assert sure_part("a x", ["xyz"]) == "a "
    assert sure_part("a xa", ["xyz"]) == "a xa"
    assert sure_part("gr\ufffd", []) == "gr"


def test_an_answer_is_typed_as_it_comes(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = Generator.load(models / "plain/model")
    parts: list[str] = []

    class Watched(TypedOut):
        def put(self, value: Any) -> None:
            super().put(value)
            parts.append(capsys.readouterr().out)

    settings = GenerationSettings(max_new_tokens=9)
    typed = Watched(generator.tokenizer, ())
    [[told]] = generator.generate(generator.encode(["open"]), settings, streamer=typed).answers
    typed.finish(told.text)
    assert sum(map(bool, parts)) > 3
    assert "".join(parts) + capsys.readouterr().out == told.text + "\n"


def test_ctrl_c_ends_a_conversation_with_130(models: Path) -> None:
    """At a real terminal, while the model waits for a line."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", "generate", "tiny", "--storage", str(models), "--chat", "max_new_tokens=4"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(theirs)
    try:
        _until(ours, "you: ")
        os.write(ours, b"open\n")
        assert "model: " in _until(ours, "you: ")
        # Readline misses a signal that comes between its prompt and its wait: one presses again.
        told = _until(ours, "interrupted", every_10_s=lambda: process.send_signal(signal.SIGINT))
        assert "error: interrupted" in told
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _until(terminal: int, text: str, seconds: float = 120, every_10_s: Callable[[], None] | None = None) -> str:
    """What a terminal shows until a text comes."""
    shown, began, calls = "", time.monotonic(), 0
    while text not in shown:
        assert time.monotonic() < began + seconds, shown
        if every_10_s and time.monotonic() >= began + 10 * calls:
            every_10_s()
            calls += 1
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 1024).decode()
    return shown
