"""What tests of pgherd, and of applications on it, start from: real servers that are ready in under a second."""
