"""Measure what the project claims, side by side in one run: ``nox -s bench``."""
