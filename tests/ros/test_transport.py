"""The shipped transport profile."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from vtt_ros import transport

UDP = """sl local_address rem_address st queues timer retransmits uid timeout inode
1: 0100007F:1D0B 00000000:0000 07 0:0 00:0 0 0 0 111
2: 00000000:1CE8 00000000:0000 07 0:0 00:0 0 0 0 222
3: 00000000:1CE9 00000000:0000 07 0:0 00:0 0 0 0 333
"""


def test_both_names_of_the_profile_variable_are_set_because_jazzy_reads_only_the_older():
    values = transport.environment(domain=7)
    assert values["FASTRTPS_DEFAULT_PROFILES_FILE"] == values["FASTDDS_DEFAULT_PROFILES_FILE"]
    assert values["ROS_DOMAIN_ID"] == "7"
    assert "ROS_DOMAIN_ID" not in transport.environment()


def test_the_profile_names_no_address_but_loopback():
    profile = Path(transport.environment()["FASTRTPS_DEFAULT_PROFILES_FILE"])
    addresses = [element.text for element in ElementTree.parse(profile).iter() if element.tag.endswith("}address")]
    assert addresses
    assert set(addresses) == {"127.0.0.1"}


def test_a_socket_of_this_process_beyond_loopback_is_found_and_those_of_others_are_not():
    assert transport.exposed_addresses(tables={"udp": UDP}, inodes={"111", "333"}) == ["00000000:1CE9"]
    assert transport.exposed_addresses(tables={"udp": UDP}, inodes={"111"}) == []
