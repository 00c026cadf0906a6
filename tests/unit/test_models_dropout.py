"""What a model that trains on a CPU drops: as much as asked for, the rest scaled, another part each time."""

import pytest
import torch
from torch import nn

from llmcore.models.dropout import quicken_dropout


def _quick(chance: float) -> nn.Module:
    model = nn.Sequential(nn.Dropout(chance))
    quicken_dropout(model)
    assert type(model[0]) is not nn.Dropout and isinstance(model[0], nn.Dropout)
    return model


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_much_is_dropped_as_asked_for(chance: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    told = _quick(chance)(torch.ones(1001, 999, dtype=dtype))
    assert told.dtype == dtype and told.shape == (1001, 999)
    share = (told == 0).float().mean().item()
    # Five standard deviations of a million draws.
    assert share == pytest.approx(chance, abs=5 * (chance * (1 - chance) / told.numel()) ** 0.5 + 2**-17)
    kept = told[told != 0].float()
    assert kept.min() == kept.max() == pytest.approx(1 / (1 - chance), rel=1e-4 if dtype == torch.float32 else 2**-8)


def test_neighbours_and_calls_are_dropped_independently() -> None:
    torch.manual_seed(1)
    layer, ones = _quick(0.5), torch.ones(1 << 20)
    first, second = layer(ones) > 0, layer(ones) > 0
    for other in (second, *(first.roll(step) for step in (1, 2, 3, 4, 5))):
        assert (first == other).float().mean().item() == pytest.approx(0.5, abs=0.004)


def test_gradients_are_those_of_what_was_kept() -> None:
    given = torch.randn(33, 7, requires_grad=True)
    told = _quick(0.3)(given)
    told.sum().backward()
    assert given.grad is not None
    assert torch.allclose(given.grad * given, told)


def test_the_generator_decides() -> None:
    layer, ones = _quick(0.2), torch.ones(50, 3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = layer(ones), layer(ones)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(layer(ones), first) and torch.equal(layer(ones), second)


@pytest.mark.parametrize(("chance", "left"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_and_all_are_as_they_were(chance: float, left: float) -> None:
    assert torch.equal(_quick(chance)(torch.ones(9)), torch.full((9,), left))
    assert torch.equal(_quick(0.5).eval()(torch.ones(9)), torch.ones(9))
    assert _quick(0.5)(torch.ones(0, 4)).shape == (0, 4)
