"""From samples to a node profile."""
