"""Trained adapters: saved, loaded, predicting, described and sent to the hub."""
