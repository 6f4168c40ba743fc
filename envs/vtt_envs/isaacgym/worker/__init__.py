"""What runs in a process of its own on Python 3.8: numpy, Isaac Gym, and nothing of vtt."""
