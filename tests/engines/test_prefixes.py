"""Distinct prefixes: where they are, and that a pass over them alone is the pass over whole rows."""

from __future__ import annotations

import pytest
import torch

from scalerl_lab.config.recipe import Optimizer, Precision
from scalerl_lab.config.start import LlamaModel
from scalerl_lab.engines.learner import TorchLearner
from scalerl_lab.engines.policy import build_policy
from scalerl_lab.engines.prefixes import distinct_prefixes
from tests.engines.whole import whole_logprobs

VOCABULARY = 7


def test_a_worked_example() -> None:
    tokens_BT = torch.tensor([[5, 6, 7], [5, 6, 8], [4, 9, 9], [5, 6, 7]])
    found = distinct_prefixes(tokens_BT, torch.tensor([3, 3, 1, 2]))
    # In lexical order: 4 | 5 6 | 5 6 7 | 5 6 8, and what follows a row's end is not looked at.
    assert found.token_U.tolist() == [4, 5, 6, 7, 8]
    assert found.position_U.tolist() == [0, 0, 1, 2, 2]
    assert found.place_BT.tolist() == [[1, 2, 3], [1, 2, 4], [0, 0, 0], [1, 2, 0]]
    assert found.place_KT.tolist() == [[0, 0, 0], [1, 2, 0], [1, 2, 3], [1, 2, 4]]
    assert found.first_U.tolist() == [0, 3, 4, 8, 11]


def random_rows(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that share much, some of them whole, some of them with a longer one."""
    noise = torch.Generator().manual_seed(seed)
    heads = torch.randint(2, (4, 9), generator=noise).repeat_interleave(6, 0)
    other = torch.randint(VOCABULARY, heads.shape, generator=noise)
    same = torch.randint(1, 10, (len(heads), 1), generator=noise) > torch.arange(9)
    return torch.where(same, heads, other), torch.randint(1, 10, (len(heads),), generator=noise)


@pytest.mark.parametrize("seed", range(20))
def test_each_position_names_the_prefix_it_ends(seed: int) -> None:
    tokens_BT, length_B = random_rows(seed)
    found = distinct_prefixes(tokens_BT, length_B)
    prefix_of: dict[int, tuple[int, ...]] = {}
    for tokens, length, places in zip(
        tokens_BT.tolist(), length_B.tolist(), found.place_BT.tolist(), strict=True
    ):
        for end in range(1, length + 1):
            prefix = tuple(tokens[:end])
            place = places[end - 1]
            assert prefix_of.setdefault(place, prefix) == prefix
            assert (found.token_U[place], found.position_U[place]) == (prefix[-1], end - 1)
    assert len(set(prefix_of.values())) == len(prefix_of) == len(found.token_U)
    assert found.place_KT.flatten()[found.first_U].tolist() == list(range(len(prefix_of)))


@pytest.mark.parametrize("head", ["fp32", "bf16"])
@pytest.mark.parametrize("seed", range(3))
def test_logprobs_and_gradients_are_those_of_whole_rows(seed: int, head: Precision) -> None:
    policy = build_policy(LlamaModel(layers=2, width=16, heads=2, mlp_width=24), VOCABULARY, seed)
    learner = TorchLearner(policy, Optimizer(), head)
    tokens_BT, length_B = random_rows(seed)
    inside_BT = (torch.arange(9) < length_B[:, None]).float()
    factor_BT = torch.randn(tokens_BT.shape, generator=torch.Generator().manual_seed(seed)) * inside_BT

    def gradient(logp_BT: torch.Tensor) -> torch.Tensor:
        policy.zero_grad()
        (logp_BT * factor_BT).sum().backward()
        return torch.cat([each.grad.flatten() for each in policy.parameters() if each.grad is not None])

    packed_BT = learner.token_logprobs(tokens_BT, 0.8, length_B)
    whole_BT = whole_logprobs(policy, tokens_BT, 0.8, head)
    assert torch.equal(packed_BT[inside_BT == 0], torch.zeros(int((inside_BT == 0).sum())))
    # In bfloat16 a sum in another order may round to the next of its 8 bits.
    close = 1e-5 if head == "fp32" else 0.05
    assert float(((packed_BT - whole_BT) * inside_BT).detach().abs().max()) < close
    packed, whole = gradient(packed_BT), gradient(whole_BT)
    assert float((packed - whole).norm() / whole.norm()) < (1e-5 if head == "fp32" else 0.02)


def test_entropies_are_spread_like_logprobs() -> None:
    policy = build_policy(LlamaModel(layers=1, width=16, heads=2, mlp_width=16), VOCABULARY, 0)
    tokens_BT, length_B = random_rows(1)
    _, entropy_BT = TorchLearner(policy, Optimizer(), "fp32").logprobs_and_entropy(tokens_BT, 1.0, length_B)
    logp = policy(input_ids=tokens_BT[:, :-1]).logits.log_softmax(-1)
    expected_BT = torch.nn.functional.pad(-(logp.exp() * logp).sum(-1), (1, 0))
    inside_BT = (torch.arange(9) < length_B[:, None]) & (torch.arange(9) > 0)
    assert torch.allclose(entropy_BT, torch.where(inside_BT, expected_BT, 0.0), atol=1e-5)
