"""Optical tactile sensors: what they are, how they deform and colour, and how to read them back."""
