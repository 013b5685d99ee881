"""Transactions over groups: two-phase commit, snapshots, recovery, deadlocks."""
