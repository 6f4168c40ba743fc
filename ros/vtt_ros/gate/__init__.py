"""The safety gate: the only process that talks to the robot's controller. No policy code, no torch."""
