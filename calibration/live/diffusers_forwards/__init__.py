"""Forwards of the real diffusers library on a live GPU, its offloading modes beside no offloading."""
