"""The other hosts of the cluster: which certificate they are to trust, and what they say.

    cluster    the cluster as the rest of the agent uses it
    admission  adds hosts, lets in those that join, and deletes hosts
    certificates  the certificates with which hosts connect to etcd
    rollout    publishes the certificate in use, and waits for the hosts during a change
    fleet      reads what the store holds of each host
    rows       hosts as the API shows them

Without a section [cluster] in sysreg.conf, nothing imports this room.
"""
