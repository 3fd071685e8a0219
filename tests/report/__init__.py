"""Tests of scalerl_lab.report."""
