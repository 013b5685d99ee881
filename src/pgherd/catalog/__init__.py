"""pgherd."""
