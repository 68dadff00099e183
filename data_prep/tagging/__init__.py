"""Words, and the task that each belongs to."""
