"""How near pictures are to what they should be."""
