"""Curves of any file: read, fitted, forecast, shown. What ``lab fit`` prints.

    sheet     a file's bytes as rows of text under named columns
    columns   which column is the run, the compute, the value, its error: as asked, or guessed
    reading   the runs and their points; every wrong cell with its line and column
    question  what is asked of the runs: method, window, start, bounds, forecasts, comparison
    fitting   the fit's window, points held out, R_0, bounds; forecasts and how they did
    versus    runs against one of them, by the joint posterior or as the paper does
    rows      numbers and empty tables of what is printed; ``compared`` the comparison as text
    table     as text; ``export`` as JSON and CSV; ``plot`` as PNG, SVG or PDF

To add a column to the output: a field of ``FittedRun``, a key in ``export``, a column in ``table``. A guess
that could go two ways is an error that names both; nothing about a file is assumed without being said.
"""

from scalerl_lab.report.forecasts.columns import Asked
from scalerl_lab.report.forecasts.export import fits_csv, fits_json
from scalerl_lab.report.forecasts.fitting import FittedRun, fit_runs
from scalerl_lab.report.forecasts.plot import check_format, write_plot
from scalerl_lab.report.forecasts.question import At, Question
from scalerl_lab.report.forecasts.reading import PointFile, RunPoints, choose, read_points
from scalerl_lab.report.forecasts.table import fits_table

__all__ = [
    "Asked",
    "At",
    "FittedRun",
    "PointFile",
    "Question",
    "RunPoints",
    "check_format",
    "choose",
    "fit_runs",
    "fits_csv",
    "fits_json",
    "fits_table",
    "read_points",
    "write_plot",
]
