"""Tests of scalerl_lab.cli."""
