"""Predicts step time and memory of diffusion transformers with weights offloaded to host memory."""
