"""Two tactile sensors, the gate and a policy on a real arm: `ros2 launch vtt_ros real.launch.py bundle:=bundle`.

The arm's own driver, its `tool_pose` and `wrench`, and an operator who gives the permit are yours; see docs/ros.md.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

CONFIG = Path(__file__).resolve().parent.parent / "config"


def generate_launch_description() -> LaunchDescription:
    """Describe the graph; the gate's command goes to MoveIt Servo."""
    drivers = [
        Node(
            package="vtt_ros",
            executable="tactile_driver",
            name=f"tactile_driver_{finger}",
            parameters=[LaunchConfiguration("drivers")],
        )
        for finger in ("left", "right")
    ]
    gate = Node(
        package="vtt_ros",
        executable="safety_gate",
        name="safety_gate",
        parameters=[LaunchConfiguration("limits")],
        remappings=[("command/twist", LaunchConfiguration("controller"))],
    )
    policy = Node(
        package="vtt_ros",
        executable="policy",
        name="policy",
        parameters=[{"bundle": LaunchConfiguration("bundle"), "backend": LaunchConfiguration("backend")}],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bundle", description="Folder written by vtt export."),
            DeclareLaunchArgument("backend", default_value="onnx", description="torch or onnx."),
            DeclareLaunchArgument("drivers", default_value=str(CONFIG / "driver.yaml"), description="Which sensors."),
            DeclareLaunchArgument("limits", default_value=str(CONFIG / "gate.yaml"), description="Limits of the gate."),
            DeclareLaunchArgument(
                "controller", default_value="servo_node/delta_twist_cmds", description="Topic of the controller."
            ),
            *drivers,
            gate,
            policy,
        ]
    )
