import json

import pytest

from vtt.errors import ConfigError, MissingError
from vtt_policies.bundle import KINDS, load_as, load_policy, policy_class, save_policy
from vtt_policies.policy import Deployable
from vtt_policies.student import StudentPolicy


@pytest.fixture
def saved(fresh_student, corners, tmp_path):
    """A student and its folder."""
    policy, _ = fresh_student()
    specs = {key: corners(1).stream_specs()[key] for key in policy.keys}
    save_policy(tmp_path / "policy", policy, specs=specs, run={"seed": 0})
    return policy, tmp_path / "policy"


def rewrite(folder, change):
    path = folder / "config.json"
    whole = json.loads(path.read_text())
    change(whole["config"])
    path.write_text(json.dumps(whole))


def test_every_kind_names_a_class_of_that_kind():
    for kind in KINDS:
        assert issubclass(policy_class(kind), Deployable)
        assert policy_class(kind).kind == kind


def test_a_checkpoint_from_before_there_were_kinds_still_loads(saved):
    policy, folder = saved

    def older(config):
        del config["kind"]
        config["student"] = config.pop("made_of")

    rewrite(folder, older)
    again, _ = load_as(StudentPolicy, folder)
    assert again.made_of() == policy.made_of()


def test_a_policy_of_another_kind_is_refused(saved):
    _, folder = saved

    class Other(StudentPolicy):
        kind = "other"

    with pytest.raises(ConfigError, match="must be of kind other, got student"):
        load_as(Other, folder)
    rewrite(folder, lambda config: config.update(kind="telepathic"))
    with pytest.raises(MissingError, match=r"No kind of policy 'telepathic'\. Available: .*student"):
        load_policy(folder)


def test_specs_of_other_keys_are_refused(saved, corners, tmp_path):
    policy, _ = saved
    with pytest.raises(ConfigError, match="specs must be of what the policy sees"):
        save_policy(tmp_path / "other", policy, specs=corners(1).stream_specs(), run={})
