"""What the hosts of a cluster share: a store of small values, and how to follow it.

    port        the store as the rest of sysreg sees it: get, list, transaction, watch, lease, users
    membership  how this host takes part in the cluster
    keys        the names of the keys
    records     what the keys hold, as values and as JSON
    problems    what may be wrong on a host, and what to do about it
    joining     what a join file holds, and the exchange by which a host joins
    decision    what a host does next
    judgement   the state of each host, and whether a change may go on
    writing     writes one entry, also if an answer is lost
    follow      list and watch a prefix for as long as the process runs
    etcd        the store on etcd
    users       the users of etcd, and their rights
    watching    a watch on etcd
    servers     failover between etcd's servers, and tokens
    gateway     one server of etcd: a request, its answer, and what a refusal means

Without a section [cluster] in sysreg.conf, nothing imports this room.
"""
