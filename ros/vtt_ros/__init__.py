"""ROS 2 nodes of vtt: sensors in, a policy's commands through a safety gate out.

Importing this package starts nothing and needs no ROS; its nodes do.
"""

import os

# A float field of a message takes an int, a bool or a NumPy scalar without complaint and sends garbage. With this set
# before the first message is imported, it raises instead.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
