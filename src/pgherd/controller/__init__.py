"""Background duties of whichever gateway holds the controller lock."""
