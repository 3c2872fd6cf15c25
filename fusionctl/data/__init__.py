"""From raw tables and films to arrays, and from arrays to batches; and synthetic data."""
