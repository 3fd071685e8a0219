"""Tests of scalerl_lab.decide."""
