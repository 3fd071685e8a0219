"""What MLflow's Charts page shows of a sweep: a view kept as a tag of the experiment."""

from __future__ import annotations

import json

VIEW_KEY = "scalerl"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
# One colour per arm, the same for all its seeds; the control is dark.
_COLOURS = (
    "#1b1b1b",
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#ff7f0e",
    "#9467bd",
    "#17becf",
    "#e377c2",
    "#8c564b",
    "#bcbd22",
    "#5254a3",
    "#ad494a",
    "#637939",
    "#7f7f7f",
)
_LINES = (
    ("pass_rate", "gpu_hours"),
    ("pass_rate", "log10_gpu_hours"),
    ("ceiling", "gpu_hours"),
    ("truncation_rate", "gpu_hours"),
    ("entropy", "gpu_hours"),
    ("mean_tokens", "gpu_hours"),
)
_BARS = ("ceiling", "efficiency")


def colour(arm: int) -> str:
    """The colour of an arm by its place in the plan, the control being 0."""
    return _COLOURS[arm % len(_COLOURS)] if arm < len(_COLOURS) else _COLOURS[1:][arm % (len(_COLOURS) - 1)]


def charts_url(server: str, experiment_id: str) -> str:
    """The page that compares a sweep's arms: pass rate against GPU-hours, one line per run.

    Args:
        server: address of MLflow's server, for example http://127.0.0.1:5000.
        experiment_id: MLflow's id of the sweep's experiment.
    """
    view = f"compareRunsMode=CHART&viewStateShareKey={VIEW_KEY}"
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{view}"


def shared_view() -> str:
    """The state of the Charts page, as MLflow's page reads it from the experiment's tag."""
    curves, fits = "curves", "fits"
    lines = [_line(f"line{place}", curves, *axes) for place, axes in enumerate(_LINES)]
    bars = [_bar(f"bar{place}", fits, metric) for place, metric in enumerate(_BARS)]
    view = {
        "runsHidden": [],
        "runsPinned": [],
        "runsVisibilityMap": {},
        # Left alone, the page shows the first ten runs only, which is less than one leave-one-out sweep.
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": False,
        "autoRefreshEnabled": True,
        "compareRunSections": [_section(curves, "Curves"), _section(fits, "Fits")],
        "compareRunCharts": [*lines, *bars],
    }
    return json.dumps(view)


def _section(uuid: str, name: str) -> dict[str, object]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        "columns": 2,
        "cardHeight": 420,
    }


def _line(uuid: str, section: str, metric: str, against: str) -> dict[str, object]:
    return {
        "type": "LINE",
        "uuid": uuid,
        "metricSectionId": section,
        "isGenerated": False,
        "deleted": False,
        "runsCountToCompare": 100,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": against,
        "scaleType": "linear",
        # A logarithmic axis has no effect with a metric on it, hence the metric log10_gpu_hours.
        "xAxisScaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "ignoreOutliers": False,
        "displayPoints": True,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
    }


def _bar(uuid: str, section: str, metric: str) -> dict[str, object]:
    return {
        "type": "BAR",
        "uuid": uuid,
        "metricSectionId": section,
        "isGenerated": False,
        "deleted": False,
        "runsCountToCompare": 100,
        "metricKey": metric,
    }
