"""The decision code of `pgherd.balance` in simulated time, over made-up or recorded load.

`workloads` say how much each key is used and when, `world` keeps shards and groups and lets changes take their time,
`run` puts rounds of decisions between, `charts` and `plot` show what came of it. The same seed gives the same result.
"""
