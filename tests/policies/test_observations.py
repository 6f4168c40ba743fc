import pytest

from vtt.errors import ConfigError, MissingError
from vtt_policies.observations import ObservationGroups, environment_word, resolve_keys, without_keys

OFFERED = ("camera_front", "force_left", "goal", "privileged", "proprioception", "tactile_left", "tactile_right")


def test_a_word_selects_the_keys_that_the_environment_offers():
    assert resolve_keys("visuotactile", OFFERED) == (
        "camera_front",
        "goal",
        "proprioception",
        "tactile_left",
        "tactile_right",
    )
    assert resolve_keys("all", OFFERED) == OFFERED


def test_keys_can_be_listed_and_keep_the_order_of_the_offer():
    assert resolve_keys("proprioception, force_left", OFFERED) == ("force_left", "proprioception")


def test_an_unknown_word_names_what_there_is():
    with pytest.raises(MissingError, match=r"No observation word or key 'touchy'\. Available: all, camera_front"):
        resolve_keys("touchy", OFFERED)
    with pytest.raises(MissingError, match=r"No modality 'smell'\. Available: nothing, touch, vision"):
        without_keys(OFFERED, "smell")


def test_a_student_without_touch_sees_what_the_word_proprio_means():
    assert without_keys(resolve_keys("tactile", OFFERED), "touch") == resolve_keys("proprio", OFFERED)


@pytest.mark.parametrize(
    ("selection", "without", "word"),
    [
        ("tactile", "nothing", "tactile"),
        ("tactile", "touch", "proprio"),
        ("visuotactile", "touch", "visual"),
        ("visuotactile", "vision", "tactile"),
        ("goal,tactile_left", "nothing", "tactile"),
        ("force_left", "nothing", "all"),
        ("all", "nothing", "all"),
    ],
)
def test_the_environment_is_asked_for_the_smallest_word_that_holds_the_selection(selection, without, word):
    assert environment_word(selection, without=without) == word


def test_a_student_that_would_see_privileged_keys_is_refused():
    with pytest.raises(ConfigError, match="student must not see privileged observations, got privileged"):
        ObservationGroups(student=resolve_keys("all", OFFERED))


def test_an_empty_student_is_refused():
    with pytest.raises(ConfigError, match="student must name at least one observation key"):
        ObservationGroups(student=())


def test_a_key_that_nobody_consumes_is_an_error_unless_ignored():
    groups = ObservationGroups(student=("goal",), teacher=("privileged",))
    with pytest.raises(ConfigError, match="got unused camera_front"):
        groups.check(("goal", "privileged", "camera_front"))
    ObservationGroups(student=("goal",), teacher=("privileged",), ignore=("camera_front",)).check(
        ("goal", "privileged", "camera_front")
    )


def test_a_key_that_is_not_offered_is_an_error():
    with pytest.raises(MissingError, match=r"No observation 'goal'\. Available: wrench"):
        ObservationGroups(student=("goal",)).check(("wrench",))


def test_a_key_cannot_be_consumed_and_ignored():
    with pytest.raises(ConfigError, match="ignore must name keys that no group consumes, got goal"):
        ObservationGroups(student=("goal",), ignore=("goal",))
