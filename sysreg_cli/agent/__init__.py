"""``sysreg-agent``: images, garbage collection, certificates (docs/contracts.rst, "The agent's API").

A request passes through the modules in this order:

    main             puts the components together, recovers, serves
    rate             limits the calls of each address
    app              limits on requests, errors that no route handles
    context          guards a route: caller, role, audit, error responses
    identity         who calls: a Keystone token, or root on the unix socket
    registry_token   who calls: a registry token
    audit            one log line for each change and each refusal
    responses        error responses
    registry_image   list, tags, delete
    registry_access  the agent as a client of the registry
    write_permit     keeps collections from deleting, during a change
    storage/         reads the registry's storage
    garbage/         garbage collection
    usage/           where the space of the storage went
    prune/           removing tags by rules
    health/          a trial of the registry with a test image, and the reading of every blob
    restore/         restoring deleted tags
    certificate/     certificates
    hosts/           the other hosts of a cluster
    registry_host    the calls about hosts
    alarms/          alarms about certificates that expire
    renewal/         renewing the registry's certificate without a call
    metrics          facts about certificates, collections and space for Prometheus
    parameters       parses query parameters
    openapi          the description of the API
"""
