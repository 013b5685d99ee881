"""The demonstration, `python -m pgherd.demo`: a shop's night of fame, told on a cluster with a million people in it."""
