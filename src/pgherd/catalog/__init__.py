"""What the cluster is: its map, its keys, the pgherd schema in the servers, definitions and admin procedures."""
