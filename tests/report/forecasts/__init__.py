"""Tests of scalerl_lab.report.forecasts."""
