"""Shards that split, move and merge while they are in use: durable workflows, see docs/design/005-elastic-shards.md."""
