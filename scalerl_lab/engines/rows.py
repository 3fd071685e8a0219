"""Completions in flight: what was written so far, and where each row stands.

Shapes: R rows in flight, B rows taken out, T tokens (prompt, response and injected phrase).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, slots=True)
class Decoding:
    """What ends, interrupts and shapes a completion."""

    max_response_tokens: int
    """Tokens that the policy may write at most, in any row; injected ones do not count."""
    temperature: float
    """Of rows that are started without one of their own."""
    pad_id: int
    end_id: int
    marker_id: int
    """Comes before the final answer; a row that has written it is not interrupted."""
    phrase: tuple[int, ...] = ()
    """Tokens injected when a row's thinking budget is used up."""
    certain_tokens: int = 0
    """A row is cut after this many consecutive tokens of its own that were nearly certain; 0 for never."""
    certain_above: float = 1.0
    """Probability above which a token is nearly certain."""

    @property
    def most_new_tokens(self) -> int:
        """Longest response with its injected phrase."""
        return self.max_response_tokens + len(self.phrase)


@dataclass(frozen=True, slots=True)
class Finished:
    """Finished completions; rows of a prompt lie together."""

    tokens_BT: torch.Tensor
    prompt_length_B: torch.Tensor
    length_B: torch.Tensor
    """Prompt, response and injected tokens."""
    mask_BT: torch.Tensor
    """1 where the policy wrote the token; 0 on prompt, injected phrase and padding."""
    logp_BT: torch.Tensor
    """Log-probability that the generator gave the token when it wrote it; 0 outside the mask."""
    version_BT: torch.Tensor
    """Optimiser steps behind the weights that wrote the token; -1 outside the mask."""
    entropy_BT: torch.Tensor
    """Entropy of the distribution the token was drawn from, in nats; 0 outside the mask."""
    truncated_B: torch.Tensor
    """Whether the row was cut at its limit, or early for repeating itself."""
    interrupted_B: torch.Tensor

    @property
    def num_written(self) -> torch.Tensor:
        """Tokens that the policy wrote, row by row (B,)."""
        return self.mask_BT.sum(1)

    def of(self, rows: torch.Tensor) -> Finished:
        """Some of the rows, in the given order."""
        return Finished(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def responses(self) -> list[list[int]]:
        """Token ids after the prompt, row by row, with what was injected."""
        rows = zip(
            self.tokens_BT.tolist(), self.prompt_length_B.tolist(), self.length_B.tolist(), strict=True
        )
        return [tokens[start:end] for tokens, start, end in rows]

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Every field, by name."""
        return {f"{prefix}{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], prefix: str) -> Finished:
        """What ``tensors`` gave, in storage of its own."""
        return cls(**{field.name: tensors[f"{prefix}{field.name}"].clone() for field in fields(cls)})


class Rows:
    """State of every row in flight; one row more than asked for stands for slots that are free."""

    _NAMES = (
        "tokens", "mask", "logp", "version", "entropy", "length", "prompt_length", "written", "budget",
        "injected", "marked", "done", "truncated", "target", "limit", "temperature", "certain",
    )  # fmt: skip

    def __init__(self, num: int, width: int, decoding: Decoding, device: torch.device) -> None:
        self.num = num
        self._pad_id = pad_id = decoding.pad_id
        rows = num + 1
        self.tokens = torch.full((rows, width), pad_id, dtype=torch.int64, device=device)
        self.mask = torch.zeros((rows, width), device=device)
        self.logp = torch.zeros((rows, width), device=device)
        self.version = torch.full((rows, width), -1, dtype=torch.int64, device=device)
        self.entropy = torch.zeros((rows, width), device=device)
        self.length = torch.ones(rows, dtype=torch.int64, device=device)
        self.prompt_length = torch.ones(rows, dtype=torch.int64, device=device)
        self.written = torch.zeros(rows, dtype=torch.int64, device=device)
        """Tokens written by the policy."""
        self.budget = torch.zeros(rows, dtype=torch.int64, device=device)
        self.injected = torch.zeros(rows, dtype=torch.int64, device=device)
        """Tokens of the phrase put in so far."""
        self.marked = torch.zeros(rows, dtype=torch.bool, device=device)
        """Whether the policy itself wrote the marker."""
        self.done = torch.ones(rows, dtype=torch.bool, device=device)
        self.truncated = torch.zeros(rows, dtype=torch.bool, device=device)
        self.target = torch.zeros(rows, dtype=torch.int64, device=device)
        """Response length, injected tokens included, up to which the row is to be advanced now."""
        self.limit = torch.full((rows,), decoding.max_response_tokens, device=device)
        """Tokens that the policy may write in the row."""
        self.temperature = torch.full((rows,), decoding.temperature, device=device)
        self.certain = torch.zeros(rows, dtype=torch.int64, device=device)
        """How many of the row's last tokens were nearly certain, without a break."""

    def begin(
        self,
        rows: torch.Tensor,
        prompts: Sequence[Sequence[int]],
        budget_B: torch.Tensor | None,
        limit: int,
        temperature: float,
    ) -> None:
        """Put fresh prompts into rows, each into equally many that follow one another."""
        device = self.tokens.device
        width, generations = self.tokens.shape[1], len(rows) // len(prompts)
        padded = [[*prompt, *[self._pad_id] * (width - len(prompt))] for prompt in prompts]
        self.tokens[rows] = torch.tensor(padded, device=device).repeat_interleave(generations, 0)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        lengths = lengths.repeat_interleave(generations)
        self.length[rows] = lengths
        self.prompt_length[rows] = lengths
        never = torch.full_like(lengths, width)
        self.budget[rows] = never if budget_B is None else budget_B.to(device)
        self.limit[rows] = limit
        self.temperature[rows] = temperature
        for name in ("mask", "logp", "entropy", "written", "injected", "target", "certain"):
            getattr(self, name)[rows] = 0
        self.version[rows] = -1
        for name in ("marked", "done", "truncated"):
            getattr(self, name)[rows] = False

    def take(self, rows: slice) -> Finished:
        """A copy of finished rows, cut to the longest."""
        length_B = self.length[rows].clone()
        width = int(length_B.max())
        return Finished(
            tokens_BT=self.tokens[rows, :width].clone(),
            prompt_length_B=self.prompt_length[rows].clone(),
            length_B=length_B,
            mask_BT=self.mask[rows, :width].clone(),
            logp_BT=self.logp[rows, :width].clone(),
            version_BT=self.version[rows, :width].clone(),
            entropy_BT=self.entropy[rows, :width].clone(),
            truncated_B=self.truncated[rows].clone(),
            interrupted_B=self.injected[rows] > 0,
        )

    def running(self) -> torch.Tensor:
        """Rows that are unfinished and short of their target."""
        short: torch.Tensor = self.length - self.prompt_length < self.target
        return short & ~self.done

    def tensors(self) -> dict[str, torch.Tensor]:
        """The whole state, by name."""
        return {f"rows.{name}": getattr(self, name) for name in self._NAMES}

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        for name in self._NAMES:
            getattr(self, name).copy_(tensors[f"rows.{name}"])
