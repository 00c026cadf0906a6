"""Which examples a rank is asked of in a validation, and how many at once."""

from itertools import chain, pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmcore.tasks.base import batches_in_order
from llmcore.tasks.text_classification import ClassExample
from llmcore.train.validation import shares_of_tokens

SIZES = st.lists(st.integers(0, 500), min_size=1, max_size=60)


@given(SIZES, st.integers(1, 9))
def test_shares_are_all_examples_once_and_of_about_as_many_tokens(sizes: list[int], world_size: int) -> None:
    shares = shares_of_tokens(sizes, world_size)
    assert len(shares) == world_size
    assert list(chain.from_iterable(shares)) == list(range(len(sizes)))
    for own in shares:
        assert sum(sizes[index] for index in own) <= sum(sizes) / world_size + max(sizes)


def test_long_examples_at_the_end_are_not_one_rank_s() -> None:
    assert shares_of_tokens([1] * 6 + [3, 3], 2) == [range(6), range(6, 8)]
    assert shares_of_tokens([7], 3) == [range(0), range(1), range(1, 1)]


@given(SIZES, st.data())
def test_batches_are_the_share_in_its_order_within_the_bound(sizes: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(sizes)))
    own = range(first, data.draw(st.integers(first, len(sizes))))
    max_tokens = data.draw(st.integers(1, 900))
    examples = [ClassExample([7] * size, 0, (0,)) for size in sizes]
    batches = list(batches_in_order(examples, own, max_tokens))
    assert list(chain.from_iterable(batches)) == list(own)
    for batch in batches:
        assert batch
        assert sum(sizes[index] for index in batch) <= max_tokens or len(batch) == 1
    for batch, after in pairwise(batches):
        with_next = sum(sizes[index] for index in batch) + sizes[after[0]]
        assert with_next > max_tokens, "no more batches than need be"
