"""Schedules that no system offers: what they would gain on the nodes of the catalogue, and on which values that rests."""
