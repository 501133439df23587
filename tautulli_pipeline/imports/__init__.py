"""Imports: planning, publishing, consuming and recording them."""
