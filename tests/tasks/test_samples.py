"""The files of prompts that are shipped: every row can be verified, and what they demonstrate is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalerl_lab.config.reading import PACKAGE
from scalerl_lab.tasks.answers import WRITTEN
from scalerl_lab.tasks.data_files import read_items, refuse_overlap
from scalerl_lab.tasks.item import DOMAINS
from scalerl_lab.tasks.problem import Verdict
from scalerl_lab.tasks.text_tasks import require_verifiable
from scalerl_lab.tasks.verifiers import VERIFIERS, Row, verify
from tests.tasks.sandbox.host import without_bwrap

FOLDER = PACKAGE.parent / "recipes" / "data"
FILES = sorted(FOLDER.glob("*.jsonl"))
JUDGED = [
    pytest.param(file, marks=without_bwrap if file.stem == "sample_code" else (), id=file.stem)
    for file in FILES
]


@pytest.mark.parametrize("file", JUDGED)
def test_every_row_can_be_verified(file: Path) -> None:
    items = read_items(file)
    require_verifiable(items)
    with_answer = [item for item in items if item.answer]
    rows = [Row(item, WRITTEN["boxed"] % item.answer, "boxed") for item in with_answer]
    rows += [Row(item, item.response, "boxed") for item in items if item.response]
    assert verify(rows) == [Verdict(1.0, 1.0)] * len(rows)
    assert all(each.score == 0.0 for each in verify([Row(item, "", "boxed") for item in items]))


def test_no_file_has_the_prompts_of_another() -> None:
    refuse_overlap({file.stem: read_items(file) for file in FILES})


def test_every_domain_with_a_verifier_has_a_sample() -> None:
    sampled = {item.domain for file in FILES if file.stem.startswith("sample_") for item in read_items(file)}
    assert set(VERIFIERS) <= sampled <= set(DOMAINS)
