"""The policy's size, its start, and its head at two precisions."""

from __future__ import annotations

import pytest
import torch

from scalerl_lab.config.recipe import Engine
from scalerl_lab.config.start import CheckpointModel, LlamaModel
from scalerl_lab.engines import require_supported
from scalerl_lab.engines.policy import build_policy, head_logprobs, matrix_params
from scalerl_lab.errors import NotSupported

TINY = LlamaModel(layers=2, width=16, heads=2, mlp_width=24)


def test_matrix_parameters_are_those_that_multiply() -> None:
    # Per layer 4 * 16 * 16 of attention and 3 * 16 * 24 of the MLP; the head 11 * 16; no embedding, no norms.
    assert matrix_params(build_policy(TINY, 11, 0)) == 2 * (1024 + 1152) + 176


def test_the_start_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one = build_policy(TINY, 11, 3).state_dict()
    torch.manual_seed(6)
    before = torch.random.get_rng_state()
    other = build_policy(TINY, 11, 3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = build_policy(TINY, 11, 4).state_dict()
    assert not torch.equal(one["lm_head.weight"], third["lm_head.weight"])


def test_head_in_fp32_against_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(5, 16, generator=generator), torch.randn(7, 16, generator=generator)
    exact = torch.log_softmax(hidden.double() @ weight.double().T / 0.7, -1)
    assert (head_logprobs(hidden, weight, "fp32", 0.7) - exact).abs().max() < 1e-5


def test_head_in_bf16_rounds_its_logits_to_eight_bits() -> None:
    # 1 + 2^-9 rounds to 1 in bfloat16, and a logit of 257 to 256 (spacing 2 there, ties to even).
    hidden = torch.tensor([[1.0 + 2.0**-9, 256.0]])
    weight = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2.0**-9], [0.0, 1.0]])
    logp = head_logprobs(hidden, weight, "bf16", 1.0)
    assert torch.equal(logp[0, 0], logp[0, 1])
    assert float(logp[0, 0] - logp[0, 2]) in (0.0, 2.0)
    exact = head_logprobs(hidden, weight, "fp32", 1.0)
    assert float(exact[0, 1] - exact[0, 0]) == pytest.approx(0.5, abs=1e-3)


def test_other_weights_and_other_engines_are_refused_by_name() -> None:
    with pytest.raises(NotSupported, match="allowed here: llama"):
        build_policy(CheckpointModel(path="/models/8b", params_billion=8.0), 11, 0)
    require_supported(Engine(), TINY)
    with pytest.raises(NotSupported, match=r"engine.generator=vllm .*allowed: torch"):
        require_supported(Engine(generator="vllm"), TINY)
    with pytest.raises(NotSupported, match=r"engine.trainer=deepspeed .*allowed: torch"):
        require_supported(Engine(trainer="deepspeed"), TINY)
