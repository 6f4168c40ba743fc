"""The driver of one tactile sensor: real over USB, or replayed."""
