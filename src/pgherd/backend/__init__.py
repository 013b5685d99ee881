"""Connections to the groups' servers: the raw protocol, pools, the settings that sessions carry along."""
