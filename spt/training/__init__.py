"""A run, from config to record: the loop, evaluation, checkpoints, preemption, loggers."""
