"""The work of an import: what is due, publishing it, consuming it, and its record."""
