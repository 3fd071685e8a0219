"""The methods of forecasting by name."""

from __future__ import annotations

from collections.abc import Callable

from scalerl_lab.errors import NotFound
from scalerl_lab.fit.curve import Curve
from scalerl_lab.fit.law_fit import fit_posterior
from scalerl_lab.fit.least_squares import least_squares, log_linear, power_law
from scalerl_lab.fit.paper_method import paper
from scalerl_lab.fit.persistence import last_level, last_value
from scalerl_lab.fit.prediction import CurveFit

METHODS: dict[str, Callable[[Curve], CurveFit]] = {
    "posterior": fit_posterior,
    "least_squares": least_squares,
    "paper": paper,
    "power_law": power_law,
    "log_linear": log_linear,
    "last_value": last_value,
    "last_level": last_level,
}
"""Every method takes any curve, also one without points, and never raises on it."""


def fit_with(method: str, curve: Curve) -> CurveFit:
    """The fit of a curve by the method of that name.

    Raises:
        NotFound: there is no such method.
    """
    if method not in METHODS:
        raise NotFound(f"no method {method!r}; there are {', '.join(METHODS)}")
    return METHODS[method](curve)
