"""The trainer: a pure step, its state, and the loop around them."""
