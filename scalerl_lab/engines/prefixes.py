"""Distinct prefixes of a batch: what a causal model says after a prefix, it says once.

Completions of one prompt share the prompt, and often the first tokens of the response. The hidden state of a
token depends on the tokens up to it alone, so a batch of B rows of T tokens has only U distinct states, U
the number of its distinct prefixes. A forward and a backward pass over those U is the same function of the
weights as one over B x T: sums over equal summands are taken once, and gradients of all rows meet in them.

Shapes: B rows, T tokens, U distinct prefixes, K rows that hold a prefix for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Where the distinct prefixes of some rows are."""

    token_U: torch.Tensor
    """Last token of each prefix."""
    position_U: torch.Tensor
    """Its position in the row, from 0."""
    place_BT: torch.Tensor
    """Which prefix each row has at each position; 0 past the row's end."""
    place_KT: torch.Tensor
    """The same of the rows in which at least one prefix is met first."""
    first_U: torch.Tensor
    """Where in ``place_KT``, flattened, each prefix is met first."""


def distinct_prefixes(tokens_BT: torch.Tensor, length_B: torch.Tensor) -> Prefixes:
    """The distinct prefixes of rows of tokens.

    Rows are put in lexical order: there, a prefix that a row shares with any earlier one it shares with the
    row before it, and the rows that share a prefix lie together.

    Args:
        tokens_BT: token ids; whatever lies past a row's end is not looked at.
        length_B: tokens of each row that count, at least 1 in one of them.
    """
    tokens = tokens_BT.cpu().numpy()
    width = tokens.shape[1]
    present = np.arange(width) < length_B.cpu().numpy()[:, None]
    tokens = np.where(present, tokens, -1)
    order = np.lexsort(tokens.T[::-1])
    tokens, present = tokens[order], present[order]
    shared = np.zeros_like(present)
    shared[1:] = np.logical_and.accumulate(tokens[1:] == tokens[:-1], axis=1)
    first = present & ~shared
    number = np.full(tokens.shape, -1)
    number[first] = np.arange(first.sum())
    # Down a column, a prefix that is shared is that of the nearest row above in which one was met first.
    place = np.where(present, np.maximum.accumulate(number, axis=0), 0)
    kept = first.any(axis=1)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    device = tokens_BT.device
    given = (
        tokens[first],
        np.nonzero(first)[1],
        place[back],
        place[kept],
        np.flatnonzero(first[kept]),
    )
    return Prefixes(*(torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in given))
