"""The networks, as Flax NNX modules that take numbers and never a config."""
