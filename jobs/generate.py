"""`python -m jobs generate MODEL`: try a model, with a prompt, a file of them, or a conversation. Needs no cluster."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from jobs.runtime.asked import PromptFile, write_answers
from jobs.runtime.console import progress, say
from jobs.runtime.references import CONFIG, existing_model
from jobs.runtime.typed import TypedOut
from jobs.runtime.vllm import Engine, answers_by_vllm, chosen_engine
from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from llmcore.storage import Folder, read_manifest, verify_files
from llmcore.tokens.conversation import written_down

__all__ = ["answer_file", "answer_prompt", "converse"]

_YOU, _MODEL = "you: ", "model: "


def answer_prompt(reference: str, storage_url: str, settings: GenerationSettings, prompt: str | None) -> None:
    """Prints what a model says to one prompt, or to what stands on standard input; token by token where one watches.

    Raises ConfigError where there is no such model, or nothing to go on from.
    """
    folder = existing_model(storage_url, reference)
    if prompt is None and sys.stdin.isatty():
        print("type the prompt; Ctrl-D ends it", file=sys.stderr)
    text = sys.stdin.read() if prompt is None else prompt
    if not text:
        raise ConfigError("the prompt is empty: give --prompt TEXT, or text on standard input")
    generator = _load(folder)
    _answer(generator, generator.encode([text])[0], settings)


def answer_file(
    reference: str, storage_url: str, settings: GenerationSettings, file: str, output: str, engine: Engine = "auto"
) -> None:
    """Writes what a model says to each row of a file of JSON Lines: the output is complete or absent.

    Raises ConfigError where there is no such model or engine, or a row has nothing to go on from; StorageError.
    """
    folder = existing_model(storage_url, reference)
    asked = PromptFile.read(file)
    encodes = bool(folder.read_json(CONFIG).get("is_encoder_decoder"))
    if chosen_engine(engine, settings, encodes=encodes) == "vllm":
        generated = _generated_by_vllm(_verified(folder), asked, settings)
    else:
        generator = _load(folder)
        prompts = asked.prompts(generator.tokenizer, generator.encode)
        with progress(len(prompts) * settings.samples, "answers", "generate") as bar:
            generated = generator.generate(prompts, settings, advance=bar.advance)
    where = write_answers(output, asked.rows, generated.answers)
    say(
        f"generate: answers to {len(asked.rows)} prompts of {file} are in {where}; {generated.num_cut} prompts were "
        f"cut, and {generated.num_again} answers taken again, alone"
    )


def converse(reference: str, storage_url: str, settings: GenerationSettings) -> None:
    """Talks with whoever is at standard input, line by line, until it ends; the model is told all that was said.

    Raises ConfigError where there is no such model, or one that knows no conversations.
    """
    generator = _load(existing_model(storage_url, reference))
    tokenizer = generator.tokenizer
    if not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of {reference} has no chat template, so that it knows no conversations: give a model that "
            "was fine-tuned for chat, or --prompt TEXT"
        )
    how = settings.model_copy(update={"stop": [*settings.stop, *_turn_end(tokenizer)]})
    watched = sys.stdin.isatty()
    said: list[dict[str, str]] = []
    while line := _line(_YOU if watched else ""):
        if not line.strip():
            continue
        said.append({"role": "user", "content": line.rstrip("\n")})
        ids = written_down(tokenizer, said, add_generation_prompt=True, tokenize=True, return_dict=False)
        if watched:
            print(_MODEL, end="", flush=True)
        said.append({"role": "assistant", "content": _answer(generator, ids, how)})


def _verified(folder: Folder) -> Path:
    """A model folder on this machine; every byte of a published one is as it was published."""
    if (manifest := read_manifest(folder)) is not None:
        verify_files(folder, manifest)
    return folder.as_local()


def _load(folder: Folder) -> Any:
    """The generator of a model folder."""
    from llmcore.models.generation import Generator

    return Generator.load(_verified(folder))


def _generated_by_vllm(folder: Path, asked: PromptFile, settings: GenerationSettings) -> Any:
    """Answers of a local model folder to all prompts, on a cluster that is started for them."""
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    from cluster.connect import connect
    from llmcore.config.common import ClusterSettings
    from llmcore.models.generation import Generated
    from llmcore.models.generation.endings import Endings
    from llmcore.models.generation.prompts import encode_prompts, end_ids, fit_prompts

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ends = end_ids(GenerationConfig.from_model_config(config), tokenizer)
    fitted = fit_prompts(config, asked.prompts(tokenizer, partial(encode_prompts, config, tokenizer)), settings)
    with connect(ClusterSettings()):
        answers = answers_by_vllm(folder, fitted.prompts, settings, Endings(tokenizer, ends, tuple(settings.stop)))
    return Generated(answers, fitted.num_cut, 0)


def _answer(generator: Any, ids: list[int], settings: GenerationSettings) -> str:
    """Prints the answers to one prompt, and returns the first."""
    typed = TypedOut(generator.tokenizer, settings.stop) if _can_be_typed(settings) else None
    generated = generator.generate([ids], settings, streamer=typed)
    if generated.num_cut:
        print("the beginning was cut: it leaves no room for the answer", file=sys.stderr)
    [answers] = generated.answers
    if typed is None:
        for answer in answers:
            print(answer.text, flush=True)
    else:
        typed.finish(answers[0].text)
    return str(answers[0].text)


def _can_be_typed(settings: GenerationSettings) -> bool:
    """A beam search knows its text at the end alone, and several answers would be mixed up."""
    return sys.stdout.isatty() and settings.method != "beam" and settings.samples == 1


def _turn_end(tokenizer: Any) -> list[str]:
    """What a chat template writes after an answer: by it a model ends its turn, whatever ends a text."""
    mark = "answer"
    said = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
    end = str(written_down(tokenizer, said, tokenize=False)).rpartition(mark)[2].strip()
    return [end] if end else []


def _line(invitation: str) -> str:
    """The next line of standard input with its end; nothing where there are no more."""
    if not invitation:
        return sys.stdin.readline()
    try:
        return input(invitation) + "\n"
    except EOFError:
        print()
        return ""
