"""Batched decoding over the policy's own weights, with a preallocated KV cache.

A slot of the cache holds what was written after one prompt, and belongs to all rows that have written just
that: rows of a prompt begin in one slot, which is decoded once for all of them, and part where their draws
differ. A slot is given back when its last row ends. Keys and values stay as the weights of their time
computed them: weights may change between two calls of ``advance`` and nothing is computed again (in-flight
update, stale KV).

Shapes: S slots in use, L layers, H heads, D width per head, C cache positions, V vocabulary, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from scalerl_lab.config.recipe import Precision
from scalerl_lab.engines.decoder import Decoder, rotary
from scalerl_lab.engines.policy import head_logprobs
from scalerl_lab.engines.rows import Decoding, Finished, Rows

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

_COMPACT_ABOVE = 64
"""Below this many slots, moving the cache costs more than decoding a few idle ones."""


@dataclass(slots=True)
class Work:
    """What the generator reads and writes, for the meter: prompts but their last token once, and one token
    a row for each that it writes, though rows may share a pass here."""

    tokens: int = 0
    """Tokens of prompts and of rows."""
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
        heads, head_width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self._cache = torch.zeros(
            (config.num_hidden_layers, 2, self.rows.num, heads, width, head_width), device=policy.device
        )
        self._slot_of_row = torch.zeros(self.rows.num, dtype=torch.int64, device=policy.device)
        """Means something for unfinished rows alone."""
        self._used = 0
        """Slots below this one may be held; those from it on are free."""
        self._cosine, self._sine = rotary(policy, width)

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
        rows, slots = rows.flatten(), self._free_slots(len(prompts))
        self.rows.begin(
            rows,
            prompts,
            budget_B,
            self.decoding.max_response_tokens if limit is None else limit,
            self.decoding.temperature if temperature is None else temperature,
        )
        self._slot_of_row[rows] = slots.repeat_interleave(generations)
        self._read(prompts, slots)

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
        decoder = Decoder(self._policy)
        while len(rows := self.rows.running().nonzero()[:, 0]):
            self._compact()
            self._write_token(decoder, rows, noise, version)
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
        return {
            **self.rows.tensors(),
            "slot_of_row": self._slot_of_row,
            "cache": self._cache[:, :, : self._used, :, : self._longest()].contiguous(),
        }

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``tensors`` gave: decoding goes on bit for bit."""
        self.rows.load_tensors(tensors)
        self._slot_of_row.copy_(tensors["slot_of_row"])
        cache = tensors["cache"]
        self._used = cache.shape[2]
        self._cache[:, :, : self._used, :, : cache.shape[4]] = cache

    # ------------------------------------------------------------ slots

    def _rows_of(self, block: int) -> slice:
        return slice(block * self._per_block, (block + 1) * self._per_block)

    def _unfinished(self) -> torch.Tensor:
        return (~self.rows.done).nonzero()[:, 0]

    def _longest(self) -> int:
        """Positions of the cache that unfinished rows reach."""
        return int((self.rows.length * ~self.rows.done).max())

    def _held(self) -> torch.Tensor:
        """Which slots belong to an unfinished row."""
        held = torch.zeros(self.rows.num, dtype=torch.bool, device=self._cache.device)
        held[self._slot_of_row[self._unfinished()]] = True
        return held

    def _free_slots(self, num: int) -> torch.Tensor:
        """As many slots that nobody holds, the lowest; unfinished rows are never fewer than slots held."""
        free = (~self._held()).nonzero()[:num, 0]
        self._used = max(self._used, int(free[-1]) + 1)
        return free

    def _release(self) -> None:
        """Leave out the slots past the last that is held."""
        held = self._held().nonzero()
        self._used = int(held[-1, 0]) + 1 if len(held) else 0

    def _compact(self) -> None:
        """Move what is held to the lowest slots, where that saves more than it costs."""
        if self._used <= _COMPACT_ABOVE:
            return
        held = self._held().nonzero()[:, 0]
        if len(held) * 2 > self._used:
            return
        longest = self._longest()
        self._cache[:, :, : len(held), :, :longest] = self._cache[:, :, held, :, :longest]
        moved = torch.zeros_like(self._slot_of_row)
        moved[held] = torch.arange(len(held), device=held.device)
        rows = self._unfinished()
        self._slot_of_row[rows] = moved[self._slot_of_row[rows]]
        self._used = len(held)

    def _part(self, rows: torch.Tensor, vocabulary: int) -> None:
        """Give slots of their own to rows whose last token differs from that of others in their slot."""
        token = self.rows.tokens[rows, self.rows.length[rows] - 1]
        branch_R = self._slot_of_row[rows] * vocabulary + token
        branch, branch_of_row = torch.unique(branch_R, return_inverse=True)
        parent = branch // vocabulary
        stays = torch.ones_like(parent, dtype=torch.bool)
        stays[1:] = parent[1:] != parent[:-1]
        if bool(stays.all()):
            return
        parts = ~stays
        fresh = self._free_slots(int(parts.sum()))
        longest = int(self.rows.length[rows].max()) - 1
        self._cache[:, :, fresh, :, :longest] = self._cache[:, :, parent[parts], :, :longest]
        slot = parent.clone()
        slot[parts] = fresh
        self._slot_of_row[rows] = slot[branch_of_row]

    # ------------------------------------------------------------ the model

    @torch.inference_mode()
    def _read(self, prompts: Sequence[Sequence[int]], slots: torch.Tensor) -> None:
        """Fill slots with each prompt but its last token."""
        longest = max(len(prompt) for prompt in prompts) - 1
        if longest < 1:
            return
        decoder, num = Decoder(self._policy), len(prompts)
        padded = [[*prompt[:-1], *[self.decoding.pad_id] * (longest + 1 - len(prompt))] for prompt in prompts]
        hidden = decoder.embedding[torch.tensor(padded, device=slots.device).flatten()]
        cosine, sine = (table[:longest].repeat(num, 1, 1) for table in (self._cosine, self._sine))
        for place, layer in enumerate(decoder.layers):
            query, key, value = (
                each.view(num, longest, decoder.heads, -1).transpose(1, 2)
                for each in decoder.queries_keys_values(layer, hidden, cosine, sine)
            )
            self._cache[place, 0, slots, :, :longest] = key
            self._cache[place, 1, slots, :, :longest] = value
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            hidden = decoder.after_attention(layer, hidden, attended.transpose(1, 2).flatten(0, 1).flatten(1))
        read = [len(prompt) - 1 for prompt in prompts]
        self.work.tokens += sum(read)
        self.work.attended += sum(each * (each + 1) // 2 for each in read)

    def _write_token(
        self, decoder: Decoder, rows: torch.Tensor, noise: torch.Generator, version: int
    ) -> None:
        """One token more in each of the rows."""
        state, unfinished = self.rows, self._unfinished()
        # Any row of a slot stands for it; a free slot is given the row that nobody has.
        row_S = torch.full((self._used,), state.num, device=rows.device)
        row_S[self._slot_of_row[unfinished]] = unfinished
        position_S = state.length[row_S] - 1
        hidden = self._decode(decoder, state.tokens[row_S, position_S], position_S)
        logp_SV = head_logprobs(hidden, decoder.head, self._head, state.temperature[row_S][:, None])
        slots, position = self._slot_of_row[rows], state.length[rows] - 1
        logp_RV = logp_SV[slots]
        probability_RV = logp_RV.exp()
        drawn = _draw(probability_RV, noise)
        self.work.tokens += len(rows)
        self.work.attended += int(position.sum()) + len(rows)
        self._note(rows, position + 1, drawn, logp_RV, probability_RV, version)
        alive = rows[~state.done[rows]]
        if len(alive):
            self._part(alive, logp_SV.shape[1])

    def _note(
        self,
        rows: torch.Tensor,
        place: torch.Tensor,
        drawn: torch.Tensor,
        logp_RV: torch.Tensor,
        probability_RV: torch.Tensor,
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
        drawn_logp = logp_RV.gather(1, drawn[:, None])[:, 0]
        state.logp[rows, place] = drawn_logp * own
        state.version[rows, place] = torch.where(own, version, -1)
        if self._with_entropy:
            entropy = -(probability_RV * logp_RV).sum(1)
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

    def _decode(self, decoder: Decoder, token_S: torch.Tensor, position_S: torch.Tensor) -> torch.Tensor:
        """Last hidden state of one token a slot, whose key and value enter the cache."""
        num = len(token_S)
        slot_S = torch.arange(num, device=token_S.device)
        reach = int(position_S.max()) + 1
        seen = torch.arange(reach, device=token_S.device) <= position_S[:, None]
        cosine, sine = self._cosine[position_S], self._sine[position_S]
        hidden = decoder.embedding[token_S]
        for place, layer in enumerate(decoder.layers):
            query, key, value = decoder.queries_keys_values(layer, hidden, cosine, sine)
            self._cache[place, 0, slot_S, :, position_S] = key
            self._cache[place, 1, slot_S, :, position_S] = value
            attended = functional.scaled_dot_product_attention(
                query[:, :, None],
                self._cache[place, 0, :num, :, :reach],
                self._cache[place, 1, :num, :, :reach],
                attn_mask=seen[:, None, None],
            )
            hidden = decoder.after_attention(layer, hidden, attended.flatten(1))
        return decoder.norm(hidden, decoder.last_norm)


def _draw(probability_RV: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """One token a row, by inversion of the cumulative distribution."""
    cumulative = probability_RV.cumsum(1)
    share = torch.rand((len(probability_RV), 1), generator=noise, device=noise.device)
    below = cumulative <= share.to(cumulative.device) * cumulative[:, -1:]
    return below.sum(1).clamp(max=probability_RV.shape[1] - 1)
