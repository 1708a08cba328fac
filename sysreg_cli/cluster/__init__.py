"""What the hosts of a cluster share: a store of small values, and how to follow it.

    port    the store as the rest of sysreg sees it: get, list, transaction, watch, lease, users

Without a section [cluster] in sysreg.conf, nothing imports this room.
"""
