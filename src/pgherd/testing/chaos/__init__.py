"""Workloads through pgherd's public face, faults from a seed, and checks of what is left when the dust has settled."""
