"""Balancing carried out: reads what `balance` decides by, begins what it decides as workflows of `reshard`."""
