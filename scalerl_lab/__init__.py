"""scalerl-lab."""
