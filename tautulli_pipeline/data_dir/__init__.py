"""The data directory: layout, locks, atomic writes and disk errors."""
