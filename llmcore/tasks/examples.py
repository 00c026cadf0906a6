"""How to try a model of each kind of task in plain transformers: Python for model cards, run in the exported folder.

transformers 5 has pipelines for classes and for decoders that write. Spans and encoder-decoders have none any more.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmcore.tasks.spans import NUM_BEST

if TYPE_CHECKING:
    from llmcore.tasks.base import Reader

__all__ = [
    "BARE_MODEL",
    "classifier_example",
    "conversation_example",
    "label_example",
    "span_example",
    "writer_example",
]

BARE_MODEL = """from transformers import AutoModel, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModel.from_pretrained(".")"""
"""Of a task that says nothing more."""

_CLASSIFIED = """from transformers import pipeline

classify = pipeline("text-classification", model="."{everything})
text = "{text}"
answer = classify({given})
print(answer)"""

_SPAN = """import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForQuestionAnswering.from_pretrained(".")
question, context = "What sits?", "A dog runs. A cat sits."
read = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
offsets = read.pop("offset_mapping")[0]
inside = torch.tensor([part == 1 for part in read.sequence_ids(0)])
with torch.no_grad():
    output = model(**read)
none = output.start_logits[0, 0] + output.end_logits[0, 0]
first, last = output.start_logits[0, inside], output.end_logits[0, inside]
first, last = (scores.where(scores >= scores.sort().values[-{best}:][0], -torch.inf) for scores in (first, last))
spans, at = first[:, None] + last, torch.arange(len(first))
length = at - at[:, None]
spans[(length < 0) | (length >= {longest})] = -torch.inf
at, to = divmod(int(spans.argmax()), len(spans))
is_there = none - spans.max() <= {threshold}  # else the first token of all, no answer, is likelier
answer = context[offsets[inside][at, 0] : offsets[inside][to, 1]].strip() if is_there else ""
print(answer)"""

_DECODED = """from transformers import pipeline

write = pipeline("text-generation", model=".")
prompt = {prompt}
answer = write(prompt, max_new_tokens={longest}, do_sample=False, return_full_text=False)[0]["generated_text"]
print(answer)"""

_ENCODED = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForSeq2SeqLM.from_pretrained(".")
prompt = {prompt}
written = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens={longest}, do_sample=False)
answer = tokenizer.decode(written[0], skip_special_tokens=True)
print(answer)"""

_CONVERSED = """from transformers import pipeline

talk = pipeline("text-generation", model=".")
messages = [{{"role": "user", "content": "Hello!"}}]
messages = talk(messages, max_new_tokens={longest}, do_sample=False)[0]["generated_text"]
answer = messages[-1]["content"]
print(answer)"""

_NAMED = """import torch
from transformers import {auto}, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), {auto}.from_pretrained(".")
prompt, names = {prompt}, {names}
read, losses = tokenizer(prompt, return_tensors="pt").input_ids, []
for name in names:
    text = tokenizer(name + tokenizer.eos_token, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        losses.append({loss} * text.numel())
answer = dict(zip(names, torch.stack(losses).neg().softmax(0).tolist()))
print(answer)"""
_OF_TEXT = "model(read, labels=text).loss"
_AFTER_TEXT = "model(torch.cat([read, text], 1), labels=torch.cat([read * 0 - 100, text], 1)).loss"


def classifier_example(*, has_pairs: bool, multi_label: bool) -> str:
    """The likeliest class of a text, or of a pair; where a text has several, how likely each one is."""
    text, given = "A cat sits on the mat.", "text"
    if has_pairs:
        given = '{"text": text, "text_pair": "A dog runs in the garden."}'
    return _CLASSIFIED.format(text=text, given=given, everything=", top_k=None" if multi_label else "")


def span_example(longest: int, threshold: float) -> str:
    """The answer to a question on a context of one window, as a span of at most so many tokens."""
    return _SPAN.format(longest=longest, threshold=threshold, best=NUM_BEST)


def writer_example(reader: "Reader", prompt: str, longest: int) -> str:
    """What follows a prompt, in at most so many tokens, by a decoder or an encoder-decoder."""
    return (_ENCODED if reader.config.is_encoder_decoder else _DECODED).format(prompt=repr(prompt), longest=longest)


def conversation_example(longest: int) -> str:
    """The answer to a message, in at most so many tokens."""
    return _CONVERSED.format(longest=longest)


def label_example(reader: "Reader", prompt: str, names: Sequence[str]) -> str:
    """How likely each name is after a prompt, among all names, by a decoder or an encoder-decoder."""
    encodes = reader.config.is_encoder_decoder
    auto, loss = ("AutoModelForSeq2SeqLM", _OF_TEXT) if encodes else ("AutoModelForCausalLM", _AFTER_TEXT)
    return _NAMED.format(auto=auto, prompt=repr(prompt), names=list(names), loss=loss)
