"""Random damaged inputs for the real program, in the suite and for as long as you like."""
