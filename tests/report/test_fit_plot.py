"""The picture of a fit is a PNG whatever the points are, and can be drawn in another process."""

from __future__ import annotations

import pickle
import struct

import pytest

from scalerl_lab.config.sweep import Rule
from scalerl_lab.fit import fit_curve
from scalerl_lab.report.fit_plot import fit_plot_png
from tests.report.simulate import Truth, points


@pytest.mark.parametrize("num", [0, 1, 5, 21])
def test_it_is_a_picture(num: int) -> None:
    curve = points(Truth(), 1)[:num]
    fitted = fit_curve("r", curve, fit_start_gpu_hours=1500.0, rule=Rule())
    picture = fit_plot_png(fitted, curve, 16000.0, "control:0")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) == (1080, 660)


def test_it_travels_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(fit_plot_png)) is fit_plot_png
