"""Batched decoding over the policy's own modules, with a preallocated KV cache.

Rows that are in flight hold slots of the cache; a slot is given back when its row ends, and taken again
by the next prompt. Keys and values stay as the weights of their time computed them: weights may change
between two calls of ``advance`` and nothing is computed again (in-flight update, stale KV).

Shapes: S slots in use, L layers, H heads, D width per head, C cache positions, V vocabulary, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from scalerl_lab.config.recipe import Precision
from scalerl_lab.engines.policy import head_logprobs
from scalerl_lab.engines.rows import Decoding, Finished, Rows

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

_COMPACT_ABOVE = 64
"""Below this many slots, moving the cache costs more than decoding a few idle ones."""


@dataclass(slots=True)
class Work:
    """Forward passes of the generator, for the meter."""

    tokens: int = 0
    """Tokens that went through the model."""
    attended: int = 0
    """Sum over those tokens of the positions they attended to, themselves included."""


class TorchSampler:
    """Draws completions in blocks of rows; each block holds the generations of some prompts."""

    def __init__(
        self,
        policy: LlamaForCausalLM,
        decoding: Decoding,
        head: Precision,
        *,
        rows_per_block: int,
        num_blocks: int,
        max_prompt_tokens: int,
        with_entropy: bool = False,
    ) -> None:
        self.decoding = decoding
        self.work = Work()
        self._policy = policy
        self._head: Precision = head
        self._per_block = rows_per_block
        self._with_entropy = with_entropy
        self._phrase = torch.tensor(decoding.phrase or (decoding.pad_id,), device=policy.device)
        width = max_prompt_tokens + decoding.most_new_tokens
        self.rows = Rows(rows_per_block * num_blocks, width, decoding, policy.device)
        config = policy.config
        self._shape = (config.num_attention_heads, config.hidden_size // config.num_attention_heads)
        heads, head_width = self._shape
        self._cache = torch.zeros(
            (config.num_hidden_layers, 2, self.rows.num, heads, width, head_width), device=policy.device
        )
        self._row_of_slot = torch.full((self.rows.num,), self.rows.num, device=policy.device)
        self._used = 0
        """Slots below this one may hold a row; those from it on are free."""
        positions = torch.arange(width, device=policy.device)[None]
        cosine, sine = policy.model.rotary_emb(torch.zeros(1, device=policy.device), positions)
        self._cosine, self._sine = cosine[0], sine[0]

    # ------------------------------------------------------------ blocks

    def start(
        self,
        block: int,
        prompts: Sequence[Sequence[int]],
        generations: int,
        budget_B: torch.Tensor | None,
        *,
        places: Sequence[int] | None = None,
        limit: int | None = None,
        temperature: float | None = None,
    ) -> None:
        """Put ``generations`` rows of each prompt into a block, and read the prompts.

        Args:
            block: a block whose rows were taken, or never used.
            prompts: as many as fill the block, or the places, with ``generations`` rows each.
            generations: rows of each prompt.
            budget_B: thinking budget of each row in tokens; None where nothing is interrupted.
            places: which prompts of the block they take the place of, counted from 0; None for all.
            limit: tokens that the policy may write in each row; None for the decoding's.
            temperature: of these rows; None for the decoding's.
        """
        device = self._cache.device
        wanted = range(len(prompts)) if places is None else places
        place_N = torch.tensor(list(wanted), device=device) * generations
        rows = self._rows_of(block).start + place_N[:, None] + torch.arange(generations, device=device)
        rows = rows.flatten()
        self.rows.begin(
            rows,
            [prompt for prompt in prompts for _ in range(generations)],
            budget_B,
            self.decoding.max_response_tokens if limit is None else limit,
            self.decoding.temperature if temperature is None else temperature,
        )
        slots = self._free_slots(len(rows))
        self._row_of_slot[slots] = rows
        self._read(prompts, slots.view(len(prompts), generations))

    @torch.inference_mode()
    def advance(self, target_of_block: dict[int, int], noise: torch.Generator, version: int) -> None:
        """Write on, until every row of the named blocks has ended or has its target length.

        Args:
            target_of_block: block -> response length, injected tokens included.
            noise: where the draws come from.
            version: optimiser steps behind the present weights, noted with every token.
        """
        self.rows.target.zero_()
        for block, target in target_of_block.items():
            self.rows.target[self._rows_of(block)] = target
        weights = _Weights(self._policy)
        while True:
            slots = self._running_slots()
            if not len(slots):
                break
            if len(slots) * 2 <= self._used and self._used > _COMPACT_ABOVE and self._idle_is_free():
                self._compact()
                continue
            self._write_token(weights, slots, noise, version)
        self._release()

    def take(self, block: int) -> Finished:
        """The finished rows of a block, whose rows become free."""
        rows = self._rows_of(block)
        if not bool(self.rows.done[rows].all()):
            raise RuntimeError(f"block {block} has unfinished rows; advance it to the limit first")
        return self.rows.take(rows)

    # ------------------------------------------------------------ state

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that is in flight: rows, slots, and the part of the KV cache in use."""
        longest = int(self.rows.length[self._row_of_slot[: self._used]].max()) if self._used else 0
        return {
            **self.rows.tensors(),
            "slots": self._row_of_slot[: self._used],
            "cache": self._cache[:, :, : self._used, :, :longest].contiguous(),
        }

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``tensors`` gave: decoding goes on bit for bit."""
        self.rows.load_tensors(tensors)
        self._used = len(tensors["slots"])
        self._row_of_slot.fill_(self.rows.num)
        self._row_of_slot[: self._used] = tensors["slots"]
        longest = tensors["cache"].shape[4]
        self._cache[:, :, : self._used, :, :longest] = tensors["cache"]

    # ------------------------------------------------------------ slots

    def _rows_of(self, block: int) -> slice:
        return slice(block * self._per_block, (block + 1) * self._per_block)

    def _free_slots(self, num: int) -> torch.Tensor:
        free = (self._row_of_slot == self.rows.num).nonzero()[:num, 0]
        self._used = max(self._used, int(free[-1]) + 1)
        return free

    def _running_slots(self) -> torch.Tensor:
        return self.rows.running()[self._row_of_slot[: self._used]].nonzero()[:, 0]

    def _idle_is_free(self) -> bool:
        """Whether every unfinished row in flight is being advanced now."""
        return not bool((~self.rows.done & ~self.rows.running()).any())

    def _release(self) -> None:
        """Free the slots of rows that have ended."""
        ended = self.rows.done[self._row_of_slot[: self._used]].nonzero()[:, 0]
        self._row_of_slot[ended] = self.rows.num
        held = (self._row_of_slot[: self._used] != self.rows.num).nonzero()
        self._used = int(held[-1, 0]) + 1 if len(held) else 0

    def _compact(self) -> None:
        """Move what is still running to the lowest slots."""
        slots = self._running_slots()
        longest = int(self.rows.length[self._row_of_slot[slots]].max())
        self._cache[:, :, : len(slots), :, :longest] = self._cache[:, :, slots, :, :longest]
        rows = self._row_of_slot[slots]
        self._row_of_slot[: self._used] = self.rows.num
        self._row_of_slot[: len(slots)] = rows
        self._used = len(slots)

    # ------------------------------------------------------------ the model

    @torch.inference_mode()
    def _read(self, prompts: Sequence[Sequence[int]], slot_PG: torch.Tensor) -> None:
        """Fill the cache with each prompt but its last token; all rows of a prompt share one pass."""
        longest = max(len(prompt) for prompt in prompts) - 1
        if longest < 1:
            return
        read = [list(prompt[:-1]) for prompt in prompts]
        padded = [row + [self.decoding.pad_id] * (longest - len(row)) for row in read]
        out = self._policy.model(input_ids=torch.tensor(padded, device=self._cache.device), use_cache=True)
        for place, layer in enumerate(out.past_key_values.layers):
            for which, values in enumerate((layer.keys, layer.values)):
                spread = values.repeat_interleave(slot_PG.shape[1], 0)
                self._cache[place, which, slot_PG.flatten(), :, :longest] = spread
        self.work.tokens += sum(len(row) for row in read)
        self.work.attended += sum(len(row) * (len(row) + 1) // 2 for row in read)

    def _write_token(
        self, weights: _Weights, slots: torch.Tensor, noise: torch.Generator, version: int
    ) -> None:
        state = self.rows
        row_S = self._row_of_slot[: self._used]
        position_S = state.length[row_S] - 1
        hidden = self._decode(weights, state.tokens[row_S, position_S], position_S)
        rows, position = row_S[slots], position_S[slots]
        logp_SV = head_logprobs(hidden[slots], weights.head, self._head, state.temperature[rows][:, None])
        probability_SV = logp_SV.exp()
        drawn = _draw(probability_SV, noise)
        self.work.tokens += len(slots)
        self.work.attended += int(position.sum()) + len(slots)
        self._note(rows, position + 1, drawn, logp_SV, probability_SV, version)

    def _note(
        self,
        rows: torch.Tensor,
        place: torch.Tensor,
        drawn: torch.Tensor,
        logp_SV: torch.Tensor,
        probability_SV: torch.Tensor,
        version: int,
    ) -> None:
        """Write the drawn tokens into their rows, or the phrase where a budget is used up."""
        state, decoding = self.rows, self.decoding
        injected = state.injected[rows]
        due = (injected < len(decoding.phrase)) & ~state.marked[rows]
        forced = due & ((state.written[rows] >= state.budget[rows]) | (injected > 0))
        own = ~forced
        token = torch.where(forced, self._phrase[injected.clamp(max=len(self._phrase) - 1)], drawn)
        state.tokens[rows, place] = token
        state.mask[rows, place] = own.float()
        drawn_logp = logp_SV.gather(1, drawn[:, None])[:, 0]
        state.logp[rows, place] = drawn_logp * own
        state.version[rows, place] = torch.where(own, version, -1)
        if self._with_entropy:
            entropy = -(probability_SV * logp_SV).sum(1)
            state.entropy[rows, place] = entropy * own
        state.length[rows] = place + 1
        state.injected[rows] = injected + forced.long()
        written = state.written[rows] + own.long()
        state.written[rows] = written
        state.marked[rows] |= own & (token == decoding.marker_id)
        ended = own & (token == decoding.end_id)
        full = written >= state.limit[rows]
        if decoding.certain_tokens:
            certain = own & (drawn_logp > math.log(decoding.certain_above))
            run = torch.where(certain, state.certain[rows] + 1, 0)
            state.certain[rows] = run
            full |= run >= decoding.certain_tokens
        full &= own & ~ended
        state.truncated[rows] = full
        state.done[rows] = ended | full

    def _decode(self, weights: _Weights, token_S: torch.Tensor, position_S: torch.Tensor) -> torch.Tensor:
        """Last hidden state of one token a slot, whose key and value enter the cache."""
        num = len(token_S)
        heads, head_width = self._shape
        slot_S = torch.arange(num, device=token_S.device)
        reach = int(position_S.max()) + 1
        seen = torch.arange(reach, device=token_S.device) <= position_S[:, None]
        cosine = self._cosine[position_S][:, None]
        sine = self._sine[position_S][:, None]
        hidden = weights.embedding[token_S]
        for place, layer in enumerate(weights.layers):
            normed = weights.norm(hidden, layer.before_attention)
            mixed = functional.linear(normed, layer.query_key_value).view(num, 3 * heads, head_width)
            turned = _rotate(mixed[:, : 2 * heads], cosine, sine)
            self._cache[place, 0, slot_S, :, position_S] = turned[:, heads:]
            self._cache[place, 1, slot_S, :, position_S] = mixed[:, 2 * heads :]
            attended = functional.scaled_dot_product_attention(
                turned[:, :heads, None],
                self._cache[place, 0, :num, :, :reach],
                self._cache[place, 1, :num, :, :reach],
                attn_mask=seen[:, None, None],
            )
            hidden = hidden + functional.linear(
                attended.reshape(num, heads * head_width), layer.attention_out
            )
            gate, up = functional.linear(weights.norm(hidden, layer.before_mlp), layer.gate_up).chunk(2, -1)
            hidden = hidden + functional.linear(functional.silu(gate) * up, layer.down)
        return weights.norm(hidden, weights.last_norm)


def _draw(probability_SV: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """One token a row, by inversion of the cumulative distribution."""
    cumulative = probability_SV.cumsum(1)
    share = torch.rand((len(probability_SV), 1), generator=noise, device=noise.device)
    below = cumulative <= share.to(cumulative.device) * cumulative[:, -1:]
    return below.sum(1).clamp(max=probability_SV.shape[1] - 1)


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding in the half-split layout of Llama."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


@dataclass(slots=True)
class _Layer:
    before_attention: torch.Tensor
    query_key_value: torch.Tensor
    attention_out: torch.Tensor
    before_mlp: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class _Weights:
    """The policy's present weights, with products of one input joined into one matrix."""

    def __init__(self, policy: LlamaForCausalLM) -> None:
        model: Any = policy.model
        self.embedding: torch.Tensor = model.embed_tokens.weight
        self.last_norm: torch.Tensor = model.norm.weight
        self.head: torch.Tensor = policy.lm_head.weight
        self._eps: float = model.norm.variance_epsilon
        self.layers = [
            _Layer(
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

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Root-mean-square norm."""
        return functional.rms_norm(hidden, (hidden.shape[-1],), weight, self._eps)
