"""Which node of a group is its primary, which may answer a read, and which of those is nearest."""
