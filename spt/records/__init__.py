"""The folder of a run: its record, what identifies it, where its results come from, and its lock."""
