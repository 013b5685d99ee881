"""Where shards should be cut, joined and kept: pure decisions over a picture of the cluster, each with its reason.

`decide.decide(picture, memory)` is one round of the controller, `spread.rebalance(picture)` the whole plan of moves,
`why.explain(picture, memory, shard)` the answer to "why does this shard stay as it is?". No input or output here: the
controller and the simulator call the very same code.
"""
