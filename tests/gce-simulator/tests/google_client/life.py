"""Drives a firewall rule and an instance's tags through their life with Google's own client, against the simulator.

An answer that this client cannot parse, or parses to something else than meant, is a defect of the simulator.
"""

import sys
import uuid

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1
from google.oauth2.credentials import Credentials

PROJECT, ZONE, NETWORK = "demo", "europe-west1-b", "projects/demo/global/networks/main"


def client(service, url):
    made = service(credentials=Credentials(token="token"), client_options=ClientOptions(api_endpoint=url))
    # The client polls operations through further clients, which it creates without its own options.
    polling = {"global_operations": compute_v1.GlobalOperationsClient, "zone_operations": compute_v1.ZoneOperationsClient}
    if service not in polling.values() and hasattr(made.transport, "_extended_operations_services"):
        for name, operations in polling.items():
            made.transport._extended_operations_services[name] = client(operations, url)
    return made


def rule(name, **fields):
    allowed = compute_v1.Allowed(I_p_protocol="tcp", ports=["80", "8000-8100"])
    defaults = {"allowed": [allowed], "source_ranges": ["192.0.2.0/24"], "destination_ranges": ["10.0.0.10/32"]}
    return compute_v1.Firewall(name=name, network=NETWORK, **{**defaults, **fields})


def expect_error(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"expected {kind.__name__}")


def wait_for(operation):
    operation.result(timeout=30)
    assert operation.done() and not operation.error_code, operation


def check_life_of_a_rule(url):
    firewalls = client(compute_v1.FirewallsClient, url)
    request = compute_v1.InsertFirewallRequest(
        project=PROJECT, firewall_resource=rule("web"), request_id=str(uuid.uuid4())
    )
    first, again = firewalls.insert(request=request), firewalls.insert(request=request)
    assert first.name == again.name, "the same request id is the same operation"
    expect_error(exceptions.Conflict, lambda: firewalls.insert(project=PROJECT, firewall_resource=rule("web")))
    wait_for(first)

    read = firewalls.get(project=PROJECT, firewall="web")
    assert (read.direction, read.priority, read.disabled) == ("INGRESS", 1000, False), read
    assert read.network.endswith(NETWORK) and read.id and read.self_link.endswith("/firewalls/web"), read
    assert list(read.allowed[0].ports) == ["80", "8000-8100"], read

    for name in ("a", "b", "c"):
        wait_for(firewalls.insert(project=PROJECT, firewall_resource=rule(name)))
    paged = compute_v1.ListFirewallsRequest(project=PROJECT, max_results=1)
    assert [found.name for found in firewalls.list(request=paged)] == ["a", "b", "c", "web"]
    filtered = compute_v1.ListFirewallsRequest(project=PROJECT, filter='name eq "(a|b)"')
    assert [found.name for found in firewalls.list(request=filtered)] == ["a", "b"]

    patch = compute_v1.Firewall(name="web", destination_ranges=["10.0.0.11/32", "10.0.0.12/32"])
    wait_for(firewalls.patch(project=PROJECT, firewall="web", firewall_resource=patch))
    read = firewalls.get(project=PROJECT, firewall="web")
    assert list(read.destination_ranges) == ["10.0.0.11/32", "10.0.0.12/32"], "a list is replaced whole"
    assert list(read.source_ranges) == ["192.0.2.0/24"], "what a patch does not name stays"

    whole = rule("web", destination_ranges=[], target_tags=["node"])
    wait_for(firewalls.update(project=PROJECT, firewall="web", firewall_resource=whole))
    read = firewalls.get(project=PROJECT, firewall="web")
    assert (list(read.destination_ranges), list(read.target_tags)) == ([], ["node"]), "what an update does not name goes"

    asked = compute_v1.TestPermissionsRequest(permissions=["compute.firewalls.update"])
    if hasattr(firewalls, "test_iam_permissions"):
        granted = firewalls.test_iam_permissions(
            project=PROJECT, resource="web", test_permissions_request_resource=asked
        )
        assert list(granted.permissions) == ["compute.firewalls.update"], granted

    wait_for(firewalls.delete(project=PROJECT, firewall="web"))
    text = expect_error(exceptions.NotFound, lambda: firewalls.get(project=PROJECT, firewall="web"))
    assert "projects/demo/global/firewalls/web" in text, text


def check_refusals(url):
    firewalls = client(compute_v1.FirewallsClient, url)

    def insert(**fields):
        return lambda: firewalls.insert(project=PROJECT, firewall_resource=rule("refused", **fields))

    mixed = ["10.0.0.0/8", "2001:db8::/32"]
    for fields in (
        {"source_ranges": mixed},
        {"source_ranges": ["10.0.0.0/33"]},
        {"destination_ranges": ["2001:db8::1/128"]},
        {"priority": 65536},
        {"allowed": [compute_v1.Allowed(I_p_protocol="icmp", ports=["80"])]},
        {"allowed": [compute_v1.Allowed(I_p_protocol="tcp", ports=["90-80"])]},
        {"target_tags": [f"t{number}" for number in range(71)]},
    ):
        expect_error(exceptions.BadRequest, insert(**fields))
    expect_error(exceptions.NotFound, lambda: firewalls.delete(project=PROJECT, firewall="absent"))
    expect_error(exceptions.NotFound, lambda: firewalls.list(project="absent"))


def check_instance_tags(url):
    instances = client(compute_v1.InstancesClient, url)
    where = {"project": PROJECT, "zone": ZONE, "instance": "node-0"}
    before = instances.get(**where)
    assert before.network_interfaces[0].network_i_p == "10.0.0.10", before
    tags = compute_v1.Tags(items=["node", "web"], fingerprint=before.tags.fingerprint)
    wait_for(instances.set_tags(tags_resource=tags, **where))
    after = instances.get(**where)
    assert list(after.tags.items) == ["node", "web"] and after.tags.fingerprint != before.tags.fingerprint, after
    expect_error(exceptions.PreconditionFailed, lambda: instances.set_tags(tags_resource=tags, **where))

    none = compute_v1.Tags(items=[], fingerprint=after.tags.fingerprint)
    wait_for(instances.set_tags(tags_resource=none, **where))
    assert list(instances.get(**where).tags.items) == []

    assert [found.name for found in instances.list(project=PROJECT, zone=ZONE)] == ["node-0", "node-1"]
    pages = compute_v1.AggregatedListInstancesRequest(project=PROJECT, max_results=1)
    scopes = instances.aggregated_list(request=pages)
    names = [found.name for _, scope in scopes for found in scope.instances]
    assert names == ["node-0", "node-1", "node-2"], names
    expect_error(exceptions.BadRequest, lambda: list(instances.list(project=PROJECT, zone="nowhere")))
    expect_error(exceptions.NotFound, lambda: instances.get(project=PROJECT, zone=ZONE, instance="absent"))


def check_networks_and_operations(url):
    networks = client(compute_v1.NetworksClient, url)
    assert networks.get(project=PROJECT, network="main").self_link.endswith(NETWORK)
    expect_error(exceptions.NotFound, lambda: networks.get(project=PROJECT, network="absent"))

    firewalls = client(compute_v1.FirewallsClient, url)
    operations = client(compute_v1.GlobalOperationsClient, url)
    name = firewalls.insert(project=PROJECT, firewall_resource=rule("later")).name
    status = operations.get(project=PROJECT, operation=name).status
    assert status in (compute_v1.Operation.Status.RUNNING, compute_v1.Operation.Status.DONE), status
    while operations.wait(project=PROJECT, operation=name).status != compute_v1.Operation.Status.DONE:
        pass
    assert name in [found.name for found in operations.list(project=PROJECT)]
    expect_error(exceptions.NotFound, lambda: operations.get(project=PROJECT, operation="absent"))


def main():
    url = sys.argv[1]
    for check in (check_life_of_a_rule, check_refusals, check_instance_tags, check_networks_and_operations):
        check(url)
        print(f"{check.__name__.replace('_', ' ')}: as Google's client expects")


main()
