from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.corpus.split import HELD_OUT, SPLITS, KeySize, Shares, split_of_id, split_of_keys

SHARES = Shares(validation=0.1, test=0.1)
keys_of_any_sizes = st.dictionaries(
    st.text(min_size=1, max_size=8), st.builds(KeySize, st.sampled_from("abc"), st.integers(1, 400)), max_size=60
)


@given(keys=keys_of_any_sizes, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_every_key_has_one_split_whatever_the_order_of_keys(keys: dict[str, KeySize], seed: int) -> None:
    splits = split_of_keys(keys, SHARES, seed)
    assert set(splits) == set(keys)
    assert set(splits.values()) <= set(SPLITS)
    assert split_of_keys(dict(reversed(keys.items())), SHARES, seed) == splits


@given(keys=keys_of_any_sizes, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_each_stratum_with_three_keys_is_in_every_split_and_takes_no_more_than_its_share(
    keys: dict[str, KeySize], seed: int
) -> None:
    splits = split_of_keys(keys, SHARES, seed)
    for stratum in {size.stratum for size in keys.values()}:
        sizes = {key: size.num_documents for key, size in keys.items() if size.stratum == stratum}
        members = Counter(splits[key] for key in sizes)
        if len(sizes) >= 3:
            assert min(members[split] for split in SPLITS) >= 1
        for split in HELD_OUT:
            held = sum(size for key, size in sizes.items() if splits[key] == split)
            # Its share, unless the smallest key that was left is larger than that.
            assert held <= max(0.1 * sum(sizes.values()), *sorted(sizes.values())[:2])


def test_many_keys_come_close_to_the_shares_with_several_keys_each() -> None:
    keys = {f"{stratum}{number}": KeySize(stratum, 1 + number**2 % 57) for stratum in "abcd" for number in range(50)}
    keys |= {f"{stratum}-giant": KeySize(stratum, 400) for stratum in "abcd"}
    splits = split_of_keys(keys, SHARES, seed=0)
    total = sum(size.num_documents for size in keys.values())
    for split in HELD_OUT:
        for stratum in "abcd":
            assert sum(splits[key] == split and keys[key].stratum == stratum for key in keys) >= 4
        held = sum(size.num_documents for key, size in keys.items() if splits[key] == split)
        assert 0.085 <= held / total <= 0.1
    assert all(splits[f"{stratum}-giant"] == "train" for stratum in "abcd")


def test_another_seed_is_another_assignment() -> None:
    keys = {f"k{number}": KeySize("", 5) for number in range(100)}
    assert split_of_keys(keys, SHARES, seed=0) != split_of_keys(keys, SHARES, seed=1)


@pytest.mark.parametrize("shares", [Shares(0.0, 0.0), Shares(0.0, 0.2), Shares(0.2, 0.0)])
def test_a_split_without_a_share_gets_nothing(shares: Shares) -> None:
    keys = {f"k{number}": KeySize("", 5) for number in range(50)}
    members = Counter(split_of_keys(keys, shares, seed=0).values())
    assert (members["validation"] > 0, members["test"] > 0) == (shares.validation > 0, shares.test > 0)


def test_documents_without_a_key_are_dealt_by_their_ids() -> None:
    members = Counter(split_of_id(f"document-{number}", SHARES, seed=0) for number in range(10_000))
    assert abs(members["validation"] - 1000) < 150 and abs(members["test"] - 1000) < 150
    assert split_of_id("x", SHARES, 0) == split_of_id("x", SHARES, 0)
