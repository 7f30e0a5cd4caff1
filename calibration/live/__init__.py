"""Stream programs on live devices: the only package that imports torch."""
