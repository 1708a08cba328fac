"""The other hosts of the cluster: which certificate they are to trust, and what they say.

    cluster    the cluster as the rest of the agent uses it
    admission  adds hosts, lets in those that join, and deletes hosts
    certificates  the certificates with which hosts connect to etcd
    publication  one key that hosts follow: its numbered changes, and a store that went back
    rollout    publishes the certificate in use, and waits for the hosts during a change
    authorities  publishes the CA certificates of the mode ssl_ca, and waits for the hosts
    fleet      reads what the store holds of each host
    rows       hosts as the API shows them

Without a section [cluster] in sysreg.conf, nothing imports this room.
"""
