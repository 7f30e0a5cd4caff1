"""Predictions against what was measured, without a GPU."""
