"""Run cards: one file per training recipe, with its differences only."""
