"""Solutions written by a model, and whether they solve their problem: all tests run, in a sandbox.

Files: ``cases`` the two kinds of tests and how they are read from JSON; ``extraction`` the solution in a
completion; ``comparison`` when an output is the expected one; ``verifier`` from problem and completion to
a verdict.

Expected outputs never enter a sandbox, and what comes out of one is data: bytes of stdout, or JSON text of
a returned value. So a program can print, exit, patch or send whatever it likes; it passes a test only by
giving the expected answer to the test's input.
"""

from __future__ import annotations

from scalerl_lab.tasks.code.cases import CallCase, Case, StdinCase, read_cases
from scalerl_lab.tasks.code.comparison import same_text, same_value
from scalerl_lab.tasks.code.extraction import last_block, likely_code
from scalerl_lab.tasks.code.verifier import CaseResult, CodeVerifier, Verdict

__all__ = [
    "CallCase",
    "Case",
    "CaseResult",
    "CodeVerifier",
    "StdinCase",
    "Verdict",
    "last_block",
    "likely_code",
    "read_cases",
    "same_text",
    "same_value",
]
