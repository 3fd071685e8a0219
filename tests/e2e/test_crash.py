"""kill -9 of a real sweep's driver: real training, real Ray, real databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.crash import compare, run_to_end, run_with_kills

SWEEP = str(Path(__file__).with_name("rehearsal.yaml"))


@pytest.mark.timeout(2000)
def test_a_sweep_survives_kill_9_of_its_driver(tmp_path: Path) -> None:
    run_to_end(SWEEP, tmp_path / "undisturbed", 900.0)
    kills = [9.0, 14.0, 20.0]
    run_with_kills(SWEEP, tmp_path / "disturbed", kills, 900.0)
    found = compare(tmp_path / "undisturbed", tmp_path / "disturbed", kills)
    assert found.sound, found
    assert found.num_common == found.num_points_undisturbed > 20
