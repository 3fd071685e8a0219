"""Anchors and mismatch weights against numbers worked by hand. Shape letters: B rows, T tokens."""

from __future__ import annotations

import math

import pytest
import torch

from scalerl_lab.config.objective import (
    IcePop,
    Masked,
    MismatchWeight,
    NoMismatchWeight,
    SequenceBand,
    SequenceMasked,
    SequenceTruncated,
    Truncated,
)
from scalerl_lab.rl.mismatch import ANCHORS, mismatch_weights
from tests.rl.batches import floats

W = (0.4, 1.5, 6.0)


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (NoMismatchWeight(), (1, 1, 1)),
        (Truncated(cap=2.0), (0.4, 1.5, 2.0)),
        (Masked(cap=3.0), (0.4, 1.5, 0.0)),
        (IcePop(low=0.5, high=5.0), (0.0, 1.5, 0.0)),
        # The product is 3.6, the geometric mean 1.5326.
        (SequenceTruncated(cap=3.0), (3.0, 3.0, 3.0)),
        (SequenceTruncated(cap=4.0), (3.6, 3.6, 3.6)),
        (SequenceMasked(cap=3.0), (0.0, 0.0, 0.0)),
        (SequenceMasked(cap=4.0), (3.6, 3.6, 3.6)),
        (SequenceBand(low=0.5, high=2.0), (0.4, 1.5, 6.0)),
        (SequenceBand(low=0.5, high=1.5), (0.0, 0.0, 0.0)),
        (SequenceBand(low=1.54, high=2.0), (0.0, 0.0, 0.0)),
    ],
    ids=str,
)
def test_three_tokens_by_hand(cfg: MismatchWeight, expected: tuple[float, ...]) -> None:
    """A masked token between them, of weight e^9, is in no product and no mean."""
    log_w = [math.log(w) for w in W]
    gen_BT = floats([-1.0, -2.0, -3.0, -4.0])
    old_BT = gen_BT + floats([log_w[0], 9.0, *log_w[1:]])
    got = mismatch_weights(cfg, old_BT, gen_BT, floats([1, 0, 1, 1]))
    want = floats([expected[0], 1.0, *expected[1:]])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def test_extreme_mismatch_stays_finite() -> None:
    got = mismatch_weights(Masked(cap=1e30), floats([-1.0, -50.0]), floats([-80.0, -1.0]), floats([1, 1]))
    assert got.tolist() == [[pytest.approx(math.exp(20)), pytest.approx(math.exp(-20))]]


def test_anchors() -> None:
    gen_BT, old_BT = floats([-2.0]), floats([-1.9])
    assert ANCHORS["gen"](gen_BT, old_BT) is gen_BT
    assert ANCHORS["old"](gen_BT, old_BT) is old_BT
    with pytest.raises(ValueError, match="none were computed"):
        ANCHORS["old"](gen_BT, None)
