"""One simulated sweep for all tests of this room: fitting it takes seconds."""

from __future__ import annotations

import pytest

from scalerl_lab.report.ceilings import Ceilings, ceilings
from scalerl_lab.report.view import SweepView
from tests.report.simulate import Sim, simulate


@pytest.fixture(scope="package")
def sim() -> Sim:
    """A leave-one-out sweep with one arm of every fate."""
    return simulate()


@pytest.fixture(scope="package")
def seen(sim: Sim) -> SweepView:
    """The sweep as a report sees it."""
    return sim.view()


@pytest.fixture(scope="package")
def found(seen: SweepView) -> Ceilings:
    """Its table of arms."""
    return ceilings(seen)
