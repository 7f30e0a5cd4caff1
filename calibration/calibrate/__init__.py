"""`offsim calibrate`: the processes that measure a machine, and the profile that comes of it."""
