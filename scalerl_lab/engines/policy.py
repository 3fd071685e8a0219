"""The policy: a Llama decoder built locally, and its language-model head at a declared precision.

Shapes: B rows, T tokens, V vocabulary, D width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from scalerl_lab.config.recipe import Precision
from scalerl_lab.config.start import Model
from scalerl_lab.engines import unsupported_model

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

_MAX_POSITIONS = 4096
"""Rotary positions have no weights, so that the same start serves every response limit."""

_INIT_SCALE = 0.8
"""Standard deviation of fresh weights times the square root of the width. The 0.02 that Llama takes at a
width of thousands would be a fifth of this at a width of 64, and learning would begin several times later."""


def default_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_policy(model: Model, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A Llama with random float32 weights, the same for the same seed.

    Raises:
        NotSupported: the model is a checkpoint of other weights.
    """
    if model.type != "llama":
        raise unsupported_model(model)
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=model.width,
        intermediate_size=model.mlp_width,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.heads,
        max_position_embeddings=_MAX_POSITIONS,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        initializer_range=_INIT_SCALE / math.sqrt(model.width),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = LlamaForCausalLM(config)
    return policy.to(default_device())


def matrix_params(policy: LlamaForCausalLM) -> int:
    """Parameters that multiply activations: all matrices and the head, without embeddings and norms."""
    embedding = policy.get_input_embeddings().weight
    return sum(p.numel() for p in policy.parameters() if p.dim() == 2 and p is not embedding)


def head_logprobs(
    hidden: torch.Tensor, weight: torch.Tensor, precision: Precision, temperature: float | torch.Tensor
) -> torch.Tensor:
    """Log-probabilities of every token from the last hidden state.

    log softmax(hidden W^T / temperature), the product in the given precision, the rest in float32.

    Args:
        hidden: (..., D) float32.
        weight: (V, D) float32.
        precision: ``bf16`` rounds hidden, weight and logits to bfloat16, as a bfloat16 head does.
        temperature: of the sampling distribution; a tensor spreads over (..., V).

    Returns:
        (..., V) float32.

    Source: ScaleRL (arXiv 2510.13786) section 3.2, after MiniMax-M1.
    """
    if precision == "bf16":
        logits = functional.linear(hidden.to(torch.bfloat16), weight.to(torch.bfloat16)).float()
    else:
        logits = functional.linear(hidden, weight)
    if isinstance(temperature, torch.Tensor) or temperature != 1.0:
        logits = logits / temperature
    return functional.log_softmax(logits, dim=-1)
