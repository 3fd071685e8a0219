"""Tests of scalerl_lab.fit."""
