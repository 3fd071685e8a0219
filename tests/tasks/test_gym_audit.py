"""The lists of what reasoning-gym's generators are worth, against fresh audits."""

from __future__ import annotations

import os

import pytest

from scalerl_lab.tasks.gym_audit import EXCLUDED, PARTS_COUNT, audit, generators

SAMPLED = ("ab", "chain_sum", "coin_flip", "gcd", "knights_knaves", "rush_hour", "spell_backward", "survo")
"""Of each verdict some; LAB_AUDIT=all audits every generator, in a minute or two."""


def test_the_lists_name_generators_and_do_not_overlap() -> None:
    known = set(generators())
    assert not EXCLUDED.keys() & PARTS_COUNT
    assert EXCLUDED.keys() | PARTS_COUNT <= known
    assert len(known) == 105


@pytest.mark.timeout(900)
def test_a_fresh_audit_agrees_with_the_lists() -> None:
    names = generators() if os.environ.get("LAB_AUDIT") == "all" else SAMPLED
    found = {each.generator: each for each in audit(names, items=12, seed=1)}
    assert {name: each.verdict for name, each in found.items()} == {
        name: each.listed for name, each in found.items()
    }
    assert not any(each.worse_than_listed for each in found.values())


def test_what_is_found_of_generators_whose_faults_are_known() -> None:
    sound, half, broken = audit(["survo", "spell_backward", "rush_hour"], items=3)
    assert (sound.verdict, sound.oracle_score, sound.junk_score, sound.errors) == ("ok", 1.0, 0.0, 0)
    # Its scorer pays a share of matching letters for a padded answer.
    assert half.verdict == "all_or_nothing"
    assert half.oracle_score == 1.0
    assert 0.0 < half.junk_score < 1.0
    assert (broken.verdict, broken.oracle_score) == ("excluded", 0.0)
    assert "its own answer scores 0" in broken.why
