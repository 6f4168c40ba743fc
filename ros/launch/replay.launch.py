"""One tactile sensor played from a recording: `ros2 launch vtt_ros replay.launch.py recording:=presses/`."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Describe the graph."""
    driver = Node(
        package="vtt_ros",
        executable="tactile_driver",
        name="tactile_driver",
        parameters=[
            {
                "finger": LaunchConfiguration("finger"),
                "sensor": LaunchConfiguration("sensor"),
                "source": ["replay:", LaunchConfiguration("recording")],
                "rest": LaunchConfiguration("rest"),
            }
        ],
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("recording", description="Pictures, a video, or STORE#KEY."),
            DeclareLaunchArgument("rest", default_value="", description="Picture of the untouched gel."),
            DeclareLaunchArgument("finger", default_value="left", description="Name of the finger."),
            DeclareLaunchArgument("sensor", default_value="gelsight_mini", description="Sensor model."),
            driver,
        ]
    )
