"""Fits of a file's runs for machines: JSON and CSV with stable keys."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from scalerl_lab.fit.score import BANDS
from scalerl_lab.records import Interval
from scalerl_lab.report.forecasts.fitting import Band, FittedRun, ForecastAt, interval
from scalerl_lab.report.forecasts.versus import Compared, PaperVersus, Reach, Versus

_PARAMETER = {"median": "median", "lo80": "low80", "hi80": "high80", "lo95": "low95", "hi95": "high95"}
_BAND = {
    "median": "median",
    **{
        f"{end}{level}": f"{long}{level}"
        for level in (50, 80, 90, 95)
        for end, long in (("lo", "low"), ("hi", "high"))
    },
}


def fits_json(fitted: Sequence[FittedRun]) -> list[dict[str, Any]]:
    """One object per run; numbers that do not exist are None."""
    return [_run(run) for run in fitted]


def fits_csv(fitted: Sequence[FittedRun]) -> str:
    """One line per run and forecast, with a header; a run without a forecast has one line."""
    rows = [row for run in fitted for row in _lines(run)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(_lines_header()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _run(run: FittedRun) -> dict[str, Any]:
    fit = run.fit
    return {
        "run": run.run,
        "status": fit.status.value,
        "shape": None if fit.shape is None else fit.shape.value,
        "why": fit.why,
        "method": fit.method,
        "n_points": int(run.curve.compute.size),
        "bounds": None if run.curve.bounds is None else list(run.curve.bounds),
        "r0": _finite(fit.r0),
        "asymptote": _parameter(interval(fit.asymptote)),
        "efficiency": _parameter(interval(fit.efficiency)),
        "midpoint": _parameter(interval(fit.midpoint)),
        "residual_sd": _finite(fit.residual_sd),
        "predictions": [_forecast(at.compute, at.point) for at in run.forecasts],
        "predictions_mean": [_forecast(at.compute, at.curve) for at in run.forecasts],
        "held_out": _held_out(run),
        "compute_to_level": None if run.to_level is None else _reach(run.to_level),
        "versus": _versus(run.versus),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _parameter(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {key: float(getattr(found, name)) for key, name in _PARAMETER.items()}


def _forecast(compute: float, band: Band | None) -> dict[str, float | None]:
    """A band at a compute; its numbers are None where the fit says nothing."""
    found = {key: None if band is None else float(getattr(band, name)) for key, name in _BAND.items()}
    return {"compute": compute, **found}


def _held_out(run: FittedRun) -> dict[str, Any] | None:
    score = run.held_out
    if score is None:
        return None
    return {
        "n_points": score.points,
        "first_compute": float(run.later.compute[0]),
        "last_compute": float(run.later.compute[-1]),
        "mean_absolute_error": _finite(score.mae),
        "crps": _finite(score.crps),
        **{f"covered{100 * level:.0f}": share for level, share in zip(BANDS, score.coverage, strict=True)},
    }


def _ends(found: Interval | None) -> dict[str, float | None]:
    """An interval whose ends may be infinite: those are None."""
    return {
        key: None if found is None else _finite(float(getattr(found, name)))
        for key, name in _PARAMETER.items()
    }


def _reach(found: Reach) -> dict[str, float | None]:
    return {"level": found.level, **_ends(found.compute)}


def _compared(found: Compared) -> dict[str, float | None]:
    return {**_ends(found.difference), "probability_above": found.probability}


def _versus(found: Versus | PaperVersus | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, PaperVersus):
        return {
            "run": found.other,
            "asymptote": found.asymptote,
            "margin": found.margin,
            "replicates": found.replicates,
            "common_asymptote": found.ceiling,
            "efficiency": _finite(found.efficiency),
            "other_efficiency": _finite(found.other_efficiency),
        }
    crossing = found.crossing
    return {
        "run": found.other,
        "asymptote": _compared(found.asymptote),
        "efficiency": None
        if found.efficiency is None
        else {"asymptote": found.ceiling, **_compared(found.efficiency)},
        "values": [{"compute": at.compute, **_compared(at.value)} for at in found.at],
        "compute_to_level_ratio": None
        if found.level is None
        else {"level": found.level, **_ends(found.ratio), "probability_sooner": found.sooner},
        "crossing": {
            "from": crossing.first,
            "until": crossing.last,
            "probability": crossing.probability,
            "probability_ahead": crossing.ahead,
            "probability_behind": crossing.behind,
            **_ends(crossing.compute),
        },
    }


_OWN = ("run", "status", "shape", "method", "n_points", "r0")
_PARAMETERS = ("asymptote", "efficiency", "midpoint")


def _lines_header() -> list[str]:
    parameters = [f"{name}_{key}" for name in _PARAMETERS for key in _PARAMETER]
    return [*_OWN, *parameters, "residual_sd", "compute", *_BAND, *(f"mean_{key}" for key in _BAND), "why"]


def _lines(run: FittedRun) -> list[dict[str, Any]]:
    """The run's JSON as flat rows with ``_lines_header``'s keys."""
    whole = _run(run)
    own: dict[str, Any] = {key: whole[key] for key in (*_OWN, "residual_sd", "why")}
    for name in _PARAMETERS:
        found = whole[name] or dict.fromkeys(_PARAMETER)
        own |= {f"{name}_{key}": value for key, value in found.items()}
    forecasts: Sequence[ForecastAt | None] = run.forecasts or [None]
    rows = []
    for at in forecasts:
        row = dict(own)
        if at is not None:
            row |= _forecast(at.compute, at.point)
            row |= {
                f"mean_{key}": v for key, v in _forecast(at.compute, at.curve).items() if key != "compute"
            }
        rows.append(row)
    return rows
