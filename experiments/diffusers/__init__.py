"""Which of diffusers' offloading modes is fastest, and why, wait by wait."""
