"""Well-known architectures by name: family and sizes; vocabulary and positions come from the tokens."""

from typing import Any, Literal, NamedTuple

__all__ = ["PRESETS", "Family", "Preset", "PresetName"]

Family = Literal["gpt2", "llama", "qwen3", "bert", "roberta", "modernbert", "t5", "bart"]
PresetName = Literal["gpt2-124m", "llama-1b", "llama-7b", "bert-base", "t5-base"]


class Preset(NamedTuple):
    """A family, and fields of its transformers config."""

    family: Family
    sizes: dict[str, Any]


PRESETS: dict[PresetName, Preset] = {
    # Radford et al. 2019, table 2.
    "gpt2-124m": Preset("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12}),
    # Zhang et al. 2024 (TinyLlama), table 1.
    "llama-1b": Preset(
        "llama",
        {
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": 22,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    # Touvron et al. 2023, table 2.
    "llama-7b": Preset(
        "llama",
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "tie_word_embeddings": False,
        },
    ),
    # Devlin et al. 2019, section 3.
    "bert-base": Preset(
        "bert", {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    ),
    # Raffel et al. 2020, section 3.1.1: an encoder and a decoder, each the size of BERT-base.
    "t5-base": Preset("t5", {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_layers": 12, "num_heads": 12}),
}
