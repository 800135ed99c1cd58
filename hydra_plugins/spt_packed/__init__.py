"""A launcher for Hydra."""
