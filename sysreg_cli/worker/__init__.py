"""``sysreg-host``, the daemon of a worker: docker and containerd trust the registry's certificate.

    main        the process: follows the store, and runs the loop
    loop        when to look at this host again
    reconciler  makes this host as desired, step by step
    acting      the desired state that this host acts on, and its record on the disk
    sight       what docker and containerd would make of the registry now
    presence    tells the store that this host lives
    reporter    tells the store what this host has done

It opens connections and accepts none. What it does is decided by ``cluster.decision``.
"""
