"""Tests of facade.api.documents: health, readiness and limits over HTTP."""

from falcon import testing

from tests.support.facade import NODES, OTHER_REGISTRY, REGISTRY, MemorySystem


def probe(system: MemorySystem, path: str, *, draining: bool = False) -> testing.Result:
    """The response of a new facade, which has cached nothing yet."""
    return system.http(draining=lambda: draining).simulate_get(path)


def test_a_facade_is_alive_in_any_case(system: MemorySystem) -> None:
    """Liveness does not depend on the nodes."""
    for node in NODES:
        system.transport.kill(node)
    alive = probe(system, "/livez", draining=True)

    assert (200, {"status": "alive"}) == (alive.status_code, alive.json)


def test_a_facade_is_ready_while_any_node_is_ready(system: MemorySystem) -> None:
    """One ready node suffices, also without the registries; without a ready node the facade is not ready."""
    ready = probe(system, "/readyz?verbose")
    assert (200, dict.fromkeys(NODES, "ready")) == (ready.status_code, ready.json["logging_nodes"])
    assert {"status": "ready"} == probe(system, "/readyz").json
    for address in (*NODES[:2], REGISTRY, OTHER_REGISTRY):
        system.transport.kill(address)
    one_left = probe(system, "/readyz?verbose")
    assert (200, "ready") == (one_left.status_code, one_left.json["logging_nodes"][NODES[2]])
    assert "ready" not in [one_left.json["logging_nodes"][address] for address in NODES[:2]]
    system.transport.kill(NODES[2])
    assert 503 == probe(system, "/readyz").status_code


def test_a_facade_that_stops_is_not_ready(system: MemorySystem) -> None:
    """The response says why, and when to retry."""
    stopping = probe(system, "/readyz", draining=True)

    assert (503, "this facade is stopping", "1") == (
        stopping.status_code,
        stopping.json["message"],
        stopping.headers["retry-after"],
    )


def test_readiness_probes_share_one_check_of_the_nodes(system: MemorySystem) -> None:
    """Many probes cost the nodes no more than one; that the facade stops is reported at once all the same."""
    draining: list[bool] = []
    http = system.http(draining=lambda: bool(draining))
    for _ in range(20):
        assert 200 == http.simulate_get("/readyz").status_code

    assert len(system.attempts()) < 20
    draining.append(True)
    assert 503 == http.simulate_get("/readyz").status_code


def test_the_limits_are_documented_for_clients(system: MemorySystem) -> None:
    """`/v1/limits` names the limits of a message, of a batch, and of the time for a request."""
    limits = system.http().simulate_get("/v1/limits").json

    assert (65_536, 10_485_760, 10_000, 5.0) == tuple(
        limits[name] for name in ("message_bytes", "batch_bytes", "batch_messages", "receive_s")
    )
