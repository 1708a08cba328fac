"""`system registry-health-query`: what is wrong with this controller, and what to do about it.

results       the result of a check, and the names of all checks
readings      what is read of the controller, each thing once
remedies      commands that mend something
runner        runs the checks side by side, each with a time limit
checks        the table of the checks
listeners     names, registry, token server, agent, and the certificate that each of them presents
certificates  the certificate on the disk, and who on this host trusts it
hosts         the hosts of the cluster
identity      Keystone, clocks, tokens, refused logins
storage       the registry's storage, its configuration, and the write lock
agent_work    what the agent tells or does: collections, a test image, changes that were interrupted
"""
