"""Seeds a cloud for a small cluster: a VPC, subnets, node security groups, instances, and their Node objects.

Example: localstack/seed --endpoint-url http://127.0.0.1:4566 --cluster demo --nodes 3 > nodes.json
"""

import argparse
import ipaddress
import json
import sys

import boto3

ZONES = ("a", "b")


def arguments():
    parser = argparse.ArgumentParser(
        prog="localstack/seed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--endpoint-url", default="http://127.0.0.1:4566", help="where EC2 answers")
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--cluster", default="demo", help="the cluster's name, for tags and node names")
    parser.add_argument("--nodes", type=int, default=3, help="how many instances and nodes")
    parser.add_argument("--separate-groups", action="store_true", help="a node security group for each instance")
    parser.add_argument("--untagged", action="store_true", help="leave the cluster tag off the node security groups")
    parser.add_argument("--instance-tag", metavar="KEY", help="a tag of each instance, as a provisioner gives it")
    return parser.parse_args()


class Seed:
    def __init__(self, options):
        self.options = options
        # LocalStack accepts any credentials; the seed is never run against the real EC2.
        self.ec2 = boto3.client(
            "ec2",
            endpoint_url=options.endpoint_url,
            region_name=options.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def network(self):
        vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
        range6 = ipaddress.ip_network(vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])
        subnets = [
            self.ec2.create_subnet(
                VpcId=vpc["VpcId"],
                CidrBlock=f"10.20.{number}.0/24",
                Ipv6CidrBlock=str(subnet6),
                AvailabilityZone=f"{self.options.region}{zone}",
            )["Subnet"]["SubnetId"]
            for number, (zone, subnet6) in enumerate(zip(ZONES, range6.subnets(new_prefix=64)))
        ]
        return vpc["VpcId"], subnets

    def node_group(self, vpc, suffix):
        cluster = self.options.cluster
        tags = [{"Key": "Name", "Value": f"nodes.{cluster}{suffix}"}]
        if not self.options.untagged:
            tags.append({"Key": f"kubernetes.io/cluster/{cluster}", "Value": "owned"})
        return self.ec2.create_security_group(
            GroupName=f"nodes.{cluster}{suffix}",
            Description=f"Nodes of {cluster}",
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
        )["GroupId"]

    def instance(self, number, subnet, group):
        tag = self.options.instance_tag or "Name"
        image = self.ec2.describe_images(MaxResults=5)["Images"][0]["ImageId"]
        launched = self.ec2.run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            SecurityGroupIds=[group],
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": tag, "Value": "edge"}]}],
            # LocalStack ignores this field within NetworkInterfaces.
            Ipv6AddressCount=1,
        )["Instances"][0]
        interface = launched["NetworkInterfaces"][0]
        zone = launched["Placement"]["AvailabilityZone"]
        return {
            "name": f"{self.options.cluster}-node-{number}",
            "instance_id": launched["InstanceId"],
            "interface_id": interface["NetworkInterfaceId"],
            "address": launched["PrivateIpAddress"],
            "address6": interface["Ipv6Addresses"][0]["Ipv6Address"],
            "provider_id": f"aws:///{zone}/{launched['InstanceId']}",
            "node_group": group,
        }


def node(machine):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine["name"]},
        "spec": {"providerID": machine["provider_id"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": machine["address"]},
                {"type": "InternalIP", "address": machine["address6"]},
                {"type": "Hostname", "address": machine["name"]},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def main():
    options = arguments()
    seed = Seed(options)
    vpc, subnets = seed.network()
    shared = None if options.separate_groups else seed.node_group(vpc, "")
    machines = []
    for number in range(options.nodes):
        group = shared or seed.node_group(vpc, f".{number}")
        machines.append(seed.instance(number, subnets[number % len(subnets)], group))
        print(f"{machines[-1]['name']} is {machines[-1]['instance_id']} in {group}", file=sys.stderr)
    items = [node(machine) for machine in machines]
    seeded = {"vpc": vpc, "machines": machines}
    json.dump({"apiVersion": "v1", "kind": "List", "items": items, "seeded": seeded}, sys.stdout, indent=2)
    print()


main()
