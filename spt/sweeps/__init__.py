"""Sweeps through Hydra: multiruns, launchers, one GPU per job, hyperparameter searches."""
