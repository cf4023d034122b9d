"""When a series that is arriving is complete."""

from ct3d_edge.node.completion import SeriesTracker
from ct3d_edge.node.config import Completion, Limits
from ct3d_edge.scan.dicom.instance_identity import InstanceIdentity

EVERY_RULE = Completion(stable_for=10, on_release=True, on_count=True)


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_tracker(rules: Completion = EVERY_RULE, limits: Limits | None = None) -> tuple[SeriesTracker, Clock]:
    clock = Clock()
    return SeriesTracker(rules, limits or Limits(), clock), clock


def add(tracker: SeriesTracker, number: int, sender: int | None = 1, declared: int | None = None) -> None:
    tracker.add_instance(InstanceIdentity("1.2.3", f"1.2.3.{number}", declared=declared), 100, sender)


def reasons(tracker: SeriesTracker) -> list[str]:
    return [reason for _, _, reason in tracker.take_complete()]


def test_series_is_complete_once_it_is_quiet() -> None:
    tracker, clock = make_tracker()
    add(tracker, 1)
    clock.now += 9
    add(tracker, 2)
    clock.now += 9.9
    assert reasons(tracker) == []
    clock.now += 0.1
    assert reasons(tracker) == ["unchanged for 10 s"]
    assert reasons(tracker) == []


def test_release_counts_when_the_last_sender_has_released() -> None:
    tracker, _ = make_tracker()
    add(tracker, 1, sender=1)
    add(tracker, 2, sender=2)
    tracker.end_association(1, released=True)
    assert reasons(tracker) == []
    tracker.end_association(2, released=True)
    assert reasons(tracker) == ["association released"]


def test_lost_association_or_a_refusal_waits_for_a_new_attempt() -> None:
    for lose in (True, False):
        tracker, clock = make_tracker()
        add(tracker, 1)
        if not lose:
            tracker.add_refusal(InstanceIdentity("1.2.3", "1.2.3.2"))
        tracker.end_association(1, released=not lose)
        assert reasons(tracker) == []
        clock.now += 10
        assert reasons(tracker) == ["unchanged for 10 s"]


def test_instance_that_was_refused_and_comes_again_is_not_missed() -> None:
    tracker, _ = make_tracker()
    add(tracker, 1)
    tracker.add_unread_refusal("1.2.3.2", sender=1)
    tracker.add_unread_refusal("1.2.3.3", sender=9)  # of another series
    tracker.end_association(1, released=True)
    assert reasons(tracker) == []
    add(tracker, 2, sender=2)
    tracker.end_association(2, released=True)
    ((_, series, reason),) = tracker.take_complete()
    assert (reason, series.refused) == ("association released", set())


def test_instance_that_was_refused_before_any_was_accepted_is_missed() -> None:
    tracker, clock = make_tracker()
    tracker.add_refusal(InstanceIdentity("1.2.3", "1.2.3.1"))
    tracker.add_unread_refusal("1.2.3.2", sender=1)
    tracker.add_unread_refusal("1.2.9.1", sender=2)  # of another association
    add(tracker, 3)
    tracker.end_association(1, released=True)
    assert reasons(tracker) == []
    clock.now += 10
    ((_, series, _),) = tracker.take_complete()
    assert series.refused == {"1.2.3.1", "1.2.3.2"}


def test_instance_that_comes_again_is_missed_by_no_series_of_its_first_association() -> None:
    tracker, _ = make_tracker()
    add(tracker, 1)
    tracker.add_instance(InstanceIdentity("1.2.4", "1.2.4.1"), 100, 1)
    tracker.add_unread_refusal("1.2.3.2", sender=1)
    tracker.end_association(1, released=True)
    add(tracker, 2, sender=2)
    tracker.end_association(2, released=True)
    assert reasons(tracker) == ["association released"] * 2


def test_instances_of_an_earlier_run_wait() -> None:
    tracker, _ = make_tracker()
    add(tracker, 1, sender=None)
    add(tracker, 2, sender=1)
    tracker.end_association(1, released=True)
    assert reasons(tracker) == []


def test_declared_number_counts_images_and_each_instance_once() -> None:
    tracker, _ = make_tracker()
    add(tracker, 1, declared=2)
    add(tracker, 1, declared=2)
    assert reasons(tracker) == []
    add(tracker, 2)
    assert reasons(tracker) == ["2 images declared"]


def test_rules_that_are_off_complete_nothing() -> None:
    tracker, _ = make_tracker(Completion(stable_for=10))
    add(tracker, 1, declared=1)
    tracker.end_association(1, released=True)
    assert reasons(tracker) == []


def test_limits_of_a_series() -> None:
    tracker, _ = make_tracker(limits=Limits(max_instances=2, max_series_bytes=250))
    new = InstanceIdentity("1.2.3", "1.2.3.9")
    assert tracker.exceeded_limit(new, 10**9) is None  # the first instance is bound by its own limit only
    add(tracker, 1)
    assert tracker.exceeded_limit(new, 151) == "a series may have 250 B"
    assert tracker.exceeded_limit(new, 150) is None
    add(tracker, 2)
    assert tracker.exceeded_limit(new, 1) == "a series may have 2 instances"
    assert tracker.exceeded_limit(InstanceIdentity("1.2.3", "1.2.3.2"), 1) is None
