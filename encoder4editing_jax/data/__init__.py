"""Images from folders to batches of uint8 arrays."""
