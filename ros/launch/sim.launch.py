"""A policy on a simulated robot: `ros2 launch vtt_ros sim.launch.py bundle:=bundle`; an operator arms the gate."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from vtt_ros.gate.config import SIMULATED


def generate_launch_description() -> LaunchDescription:
    """Describe the graph."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("bundle", description="Folder written by vtt export."),
            DeclareLaunchArgument("env", default_value="vtt_envs:vtt/PegInsertion-v0", description="Gymnasium id."),
            DeclareLaunchArgument("observation", default_value="tactile", description="What the policy sees."),
            Node(
                package="vtt_ros",
                executable="sim_robot",
                name="sim_robot",
                parameters=[
                    {"env": LaunchConfiguration("env"), "observation": LaunchConfiguration("observation")},
                ],
            ),
            Node(package="vtt_ros", executable="safety_gate", name="safety_gate", parameters=[SIMULATED]),
            Node(
                package="vtt_ros",
                executable="policy",
                name="policy",
                parameters=[{"bundle": LaunchConfiguration("bundle")}],
            ),
        ]
    )
