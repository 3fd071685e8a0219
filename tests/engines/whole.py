"""What the model library's own forward pass says of whole rows: the measure of our decoder's arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scalerl_lab.config.recipe import Precision
from scalerl_lab.engines.policy import head_logprobs

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM


def whole_logprobs(
    policy: LlamaForCausalLM, tokens_BT: torch.Tensor, temperature: float = 1.0, head: Precision = "fp32"
) -> torch.Tensor:
    """Log-probability of every token given those before it (B, T); 0 for the first of each row."""
    hidden = policy.model(input_ids=tokens_BT[:, :-1], use_cache=False).last_hidden_state
    logp = head_logprobs(hidden, policy.lm_head.weight, head, temperature)
    return torch.nn.functional.pad(logp.gather(-1, tokens_BT[:, 1:, None]).squeeze(-1), (1, 0))
