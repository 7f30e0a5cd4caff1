"""Does contention through host memory make layerwise offload slower, and does NVLink hide it? On hardware."""
