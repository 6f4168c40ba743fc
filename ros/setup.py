"""What colcon needs besides setup.cfg; pip installs `vtt_ros` with the rest of vtt."""

from glob import glob

from setuptools import setup

setup(
    name="vtt_ros",
    version="0.1.0",
    python_requires=">=3.11",
    packages=["vtt_ros", "vtt_ros.driver", "vtt_ros.drill", "vtt_ros.gate"],
    package_data={"vtt_ros": ["py.typed", "*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vtt_ros"]),
        ("share/vtt_ros", ["package.xml"]),
        ("share/vtt_ros/launch", sorted(glob("launch/*.launch.py"))),
        ("share/vtt_ros/config", sorted(glob("config/*.yaml"))),
    ],
    entry_points={
        "console_scripts": [
            "safety_gate = vtt_ros.gate.node:main",
            "tactile_driver = vtt_ros.driver.node:main",
            "policy = vtt_ros.policy_node:main",
            "sim_robot = vtt_ros.sim_robot:main",
            "robot_model = vtt_ros.robot_model:main",
        ]
    },
)
