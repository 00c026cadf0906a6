"""Texts that are continued together while a model trains, and by its export."""

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from llmcore.models.generation.samples import continue_prompts, continue_together
from llmcore.models.packed import PackedBatch, hidden_states
from tests.engines import tiny_model
from tests.writers import write_writer


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(0, 12))
def test_each_text_goes_on_from_its_own_end_and_none_outgrows_the_model(prompts: list[list[int]], num: int) -> None:
    texts = continue_together(lambda texts: [text[-1] + 1 for text in texts], prompts, num, longest=10)
    steps = min(num, 10 - max(map(len, prompts)))
    assert texts == [prompt + [prompt[-1] + 1 + step for step in range(steps)] for prompt in prompts]


def test_greedy_continuations_together_are_those_of_transformers_one_by_one() -> None:
    model = tiny_model().eval()

    def most_likely(texts: list[list[int]]) -> list[int]:
        batch = PackedBatch.of_documents(texts)
        last = hidden_states(model, batch).flatten(0, 1)[batch.last_tokens()]
        return model.get_output_embeddings()(last).argmax(-1).tolist()  # type: ignore[operator, no-any-return]

    prompts = [[5, 7, 9], [11], [3, 4, 5, 6, 7]]
    with torch.no_grad():
        texts = continue_together(most_likely, prompts, 6, longest=16)
        model.set_attn_implementation("eager")  # type: ignore[operator]
        for prompt, text in zip(prompts, texts, strict=True):
            alone = list(prompt)
            for _ in range(6):
                alone.append(int(model(input_ids=torch.tensor([alone]), use_cache=False).logits[0, -1].argmax()))
            assert text == alone


def test_an_export_goes_on_from_each_prompt_the_same_for_a_seed(tmp_path: Path) -> None:
    folder = write_writer(tmp_path, "gpt2")
    first, second, other = (continue_prompts(folder, ["open the path", "close"], seed=seed) for seed in (1, 1, 2))
    assert [sample["prompt"] for sample in first] == ["open the path", "close"]
    assert all(sample["text"] for sample in first)
    assert first == second != other
