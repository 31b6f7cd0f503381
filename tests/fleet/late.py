"""A SuperNode whose clock is wrong: late.py SECONDS ARGUMENTS-OF-FLOWER-SUPERNODE. It signs with a time so many seconds ago."""

import sys
from datetime import timedelta

from flwr.supernode import node_auth_http_interceptor as signing
from flwr.supernode.cli import flower_supernode

behind, right = timedelta(seconds=float(sys.argv.pop(1))), signing.now
signing.now = lambda: right() - behind
flower_supernode()
