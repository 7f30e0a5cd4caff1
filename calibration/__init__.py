"""A live node becomes a node profile (not built yet)."""
