"""``sysreg-host``, the daemon of a worker: which certificates docker, containerd and the system trust.

    main        the process: follows the store, and runs the loop
    loop        when to look at this host again
    duty        what one look does: read, reconcile, report
    reconciler  makes this host as desired for the registry's certificate, step by step
    authorities  has the system of this host trust the desired CA certificates
    acting      the desired state that this host acts on, and its record on the disk
    sight       what docker and containerd would make of the registry now
    presence    tells the store that this host lives
    reporter    tells the store what this host has done

It opens connections and accepts none. What it does is decided by ``cluster.decision``.
"""
