"""A live node becomes a node profile, and predictions are held to replays on it."""
