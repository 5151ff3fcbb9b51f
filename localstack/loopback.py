"""Runs LocalStack on loopback only.

LocalStack 4.14 takes no more than the port from GATEWAY_LISTEN where the host is an IPv4 address, and listens on
every interface of the machine; it accepts any credentials.
"""

import functools

from twisted.internet import endpoints

endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")

from localstack.runtime.main import main  # noqa: E402: it must find the endpoint above

main()
