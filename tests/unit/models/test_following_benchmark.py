from ainode.models.following.benchmark import scan
from ainode.models.following.registration import RigidTransform, register


def test_the_scans_whose_registration_is_timed_are_of_one_patient_who_lies_differently() -> None:
    now, then = scan(1, (150, 256, 256)), scan(2, (150, 256, 256))
    found = register(now, then)
    assert isinstance(found, RigidTransform)
    assert found.turn_degrees > 1
