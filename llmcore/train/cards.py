"""Model cards (Markdown) of pre-trained models: what they are, what they saw, and what they are not for."""

import json
from collections.abc import Mapping

from llmcore.config.pretrain import Learnt, PretrainSettings
from llmcore.train.bias_card import bias_section

__all__ = ["compute_section", "pretraining_card"]


def pretraining_card(
    config: PretrainSettings,
    *,
    family: str,
    sources: list[str],
    tokens_seen: int,
    step: int,
    sequence_length: int,
    metrics: Mapping[str, float],
    end_of_text: str,
) -> str:
    """The card of an export.

    Args:
        config: of the run.
        family: architecture.
        sources: names of the corpora.
        tokens_seen: tokens of the corpus that were trained on.
        step: optimizer steps.
        sequence_length: tokens in a row.
        metrics: of the validation split; none of a checkpoint at whose step there was no validation.
        end_of_text: what documents end with.
    """
    tag, target, use = _OF[config.learnt]
    model = config.model
    named = f"{model.preset}, " if model.preset is not None else ""
    origin, before = f"random weights ({named}{json.dumps(model.sizes)})", ""
    if model.folder is not None:
        origin, before = "the weights of a model", f" It began as `{model.folder}`, which saw more than is told here."
    return _CARD.format(
        tag=tag,
        target=target,
        use=use,
        family=family,
        origin=origin,
        before=before,
        tokens=tokens_seen,
        sources=", ".join(sources),
        step=step,
        rows=config.train.global_batch_size,
        length=sequence_length,
        precision=config.train.precision,
        figures="".join(
            f"| {told} | {metrics[name]:.4f} |\n" for name, told in _figures(config).items() if name in metrics
        ),
        end=end_of_text,
        bias=bias_section({}, None),
    )


def compute_section(
    *,
    num_parameters: int,
    num_trained: int,
    flops: float,
    world_size: int,
    device: str,
    precision: str,
    zero_stage: int,
) -> str:
    """What training took until then: the end of a card.

    Args:
        num_parameters: of the model.
        num_trained: of them; the others are frozen.
        flops: that the model's tokens need, forward and backward, recomputation left out.
        world_size: devices of the newest start.
        device: name of one.
        precision: in which the model computes.
        zero_stage: of DeepSpeed.
    """
    frozen = "" if num_trained == num_parameters else f", {num_trained:,} ({num_trained / num_parameters:.2%}) of them"
    return f"""
## Compute

{num_parameters:,} parameters{frozen}, trained with {flops:.2e} floating-point operations (what the model needs;
recomputation is not counted), at last on {world_size} × {device} in {precision}, DeepSpeed ZeRO-{zero_stage}.
"""


def _figures(config: PretrainSettings) -> dict[str, str]:
    """What a card says of which metrics."""
    of_sets = {f"validation_{name}_loss": f"… on the held-out set {name}" for name in config.validation_sets}
    return {
        "validation_loss": "validation loss (nats a token)",
        "unigram_loss": "… of the train unigrams on the same tokens",
        **of_sets,
    }


_CONTINUED = """from transformers import pipeline

print(pipeline("text-generation", model=".")("Return the", max_new_tokens=40)[0]["generated_text"])"""
_FILLED_IN = """from transformers import pipeline

fill = pipeline("fill-mask", model=".")
print(fill(f"Return {fill.tokenizer.mask_token} value.")[0])"""
_INFILLED = """from transformers import pipeline

text = "<|fim_prefix|>def add(a, b):\\n<|fim_suffix|>\\n    return c<|fim_middle|>"  # by your tokenizer's names
print(pipeline("text-generation", model=".")(text, max_new_tokens=40)[0]["generated_text"])"""
_WRITTEN = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForSeq2SeqLM.from_pretrained(".")
ids = tokenizer("Return the <|extra_id_0|> of the file.", return_tensors="pt").input_ids  # by your tokenizer's names
print(tokenizer.decode(model.generate(ids, max_new_tokens=20)[0]))"""
_OF: dict[Learnt, tuple[str, str, str]] = {
    "causal_lm": ("text-generation", "the next token", _CONTINUED),
    "masked_lm": ("fill-mask", "masked tokens", _FILLED_IN),
    "next_sentence": (
        "fill-mask",
        "masked tokens, and whether a segment follows another (half did, the others were of two documents),",
        _FILLED_IN,
    ),
    "span_corruption": ("text2text-generation", "spans that were cut out", _WRITTEN),
    "fill_in_the_middle": ("text-generation", "the next token, also where the middle stands last", _INFILLED),
}
"""Of each: the hub's tag, what is predicted, and how to try it."""

_CARD = """---
library_name: transformers
pipeline_tag: {tag}
---
# A pre-trained {family} model

Trained from {origin} to predict {target} on {tokens:,} tokens of {sources}.{before}

| | |
| --- | --- |
| optimizer steps | {step} |
| rows a step, tokens a row | {rows} × {length} |
| precision | {precision} |
{figures}
```python
{use}
```

Documents of the corpus end with `{end}`; no document saw another in training. The model repeats what its corpus
holds, errors and biases included; it was not tested for any use but the measurements above.
{bias}"""
