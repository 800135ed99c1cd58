"""What a run leaves on disk: its folder, its record, its lock, and what identifies it."""
