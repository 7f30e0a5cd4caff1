"""CUDA kernels of our own, for what no framework kernel measures, and their binding without a framework."""
