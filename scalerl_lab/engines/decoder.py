"""The decoder's arithmetic on the policy's own weights, for the learner and the sampler alike.

Shapes: N tokens, D width, H heads, W width per head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM


@dataclass(slots=True)
class Layer:
    """Weights of one decoder layer, with products of one input joined into one matrix."""

    before_attention: torch.Tensor
    query_key_value: torch.Tensor
    attention_out: torch.Tensor
    before_mlp: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class Decoder:
    """A Llama's present weights; gradients through them reach the policy."""

    def __init__(self, policy: LlamaForCausalLM) -> None:
        model: Any = policy.model
        self.embedding: torch.Tensor = model.embed_tokens.weight
        self.last_norm: torch.Tensor = model.norm.weight
        self.head: torch.Tensor = policy.lm_head.weight
        self.heads: int = policy.config.num_attention_heads
        self.head_width: int = policy.config.hidden_size // self.heads
        self._eps: float = model.norm.variance_epsilon
        self.layers = [
            Layer(
                before_attention=layer.input_layernorm.weight,
                query_key_value=torch.cat(
                    [getattr(layer.self_attn, f"{name}_proj").weight for name in ("q", "k", "v")]
                ),
                attention_out=layer.self_attn.o_proj.weight,
                before_mlp=layer.post_attention_layernorm.weight,
                gate_up=torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
                down=layer.mlp.down_proj.weight,
            )
            for layer in model.layers
        ]

    def queries_keys_values(
        self, layer: Layer, hidden_ND: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a layer's attention reads (N, H, W), with positions in queries and keys.

        Args:
            layer: the layer.
            hidden_ND: hidden states.
            cosine: (N, 1, W) of each token's position.
            sine: the same.
        """
        normed = self.norm(hidden_ND, layer.before_attention)
        mixed = functional.linear(normed, layer.query_key_value).view(-1, 3 * self.heads, self.head_width)
        unturned, value = torch.split(mixed, [2 * self.heads, self.heads], 1)
        query, key = _rotate(unturned, cosine, sine).chunk(2, 1)
        return query, key, value

    def after_attention(
        self, layer: Layer, hidden_ND: torch.Tensor, attended_ND: torch.Tensor
    ) -> torch.Tensor:
        """The layer's output (N, D) once attention has gathered."""
        hidden_ND = hidden_ND + functional.linear(attended_ND, layer.attention_out)
        gate, up = functional.linear(self.norm(hidden_ND, layer.before_mlp), layer.gate_up).chunk(2, -1)
        return hidden_ND + functional.linear(functional.silu(gate) * up, layer.down)

    def norm(self, hidden_ND: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Root-mean-square norm."""
        return functional.rms_norm(hidden_ND, (hidden_ND.shape[-1],), weight, self._eps)


def rotary(policy: LlamaForCausalLM, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (positions, 1, W) of the rotary embedding."""
    place = torch.arange(positions, device=policy.device)[None]
    cosine, sine = policy.model.rotary_emb(torch.zeros(1, device=policy.device), place)
    return cosine[0, :, None], sine[0, :, None]


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding in the half-split layout of Llama."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine
