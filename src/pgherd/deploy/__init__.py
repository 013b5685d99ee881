"""Starting and stopping PostgreSQL servers and whole local clusters on one machine."""
