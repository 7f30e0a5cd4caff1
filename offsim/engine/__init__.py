"""What happens: SimPy processes for host threads, streams, copy engines, collectives and links."""
