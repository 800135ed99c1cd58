"""Sweeps through Hydra: launchers, GPUs, hyperparameter searches."""
