"""Files, locks, and folders that are complete or absent."""
