"""From a statement and the cluster map to one plan. Pure."""
