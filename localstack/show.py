"""Prints the security groups on each node's interface, and their ingress rules."""

import argparse
import json

import boto3


def sources(permission):
    return [r["CidrIp"] for r in permission["IpRanges"]] + [r["CidrIpv6"] for r in permission["Ipv6Ranges"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("seeded", help="what localstack/seed printed")
    options = parser.parse_args()
    ec2 = boto3.client(
        "ec2",
        endpoint_url=options.endpoint_url,
        region_name=options.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    with open(options.seeded) as file:
        machines = json.load(file)["seeded"]["machines"]
    for machine in machines:
        interface = ec2.describe_network_interfaces(NetworkInterfaceIds=[machine["interface_id"]])
        ids = [group["GroupId"] for group in interface["NetworkInterfaces"][0]["Groups"]]
        print(f"  {machine['name']} ({machine['instance_id']})")
        for group in ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"]:
            print(f"    {group['GroupId']} {group['GroupName']}")
            for rule in group["IpPermissions"]:
                for source in sources(rule):
                    print(f"      open: {rule['IpProtocol']}/{rule['FromPort']} from {source}")


main()
