"""Carries out plans over links, alike for gateway and client."""
