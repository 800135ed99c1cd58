"""Trained adapters: save, load, predict, describe, and upload to the hub."""
