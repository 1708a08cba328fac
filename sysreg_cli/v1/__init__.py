"""What the `system` command and the agent exchange: frozen values for the bodies of the v1 API.

    wire          values from JSON and to JSON, and their OpenAPI schemas
    paths         the paths of the calls
    certificates  modes, a certificate, the response to an install
    collections   phases, outcomes, options, the result and the status of a garbage collection
    images        an image or tag in a list
    usage         where the space of the storage went
    prune         which tags a prune removes and keeps
    health        what the agent does for registry-health-query
    restore       which tags were deleted, and what was restored
    hosts         the hosts of a cluster
    faults        the body of an error
    unix_socket   HTTP over the agent's unix socket

Both sides of the API, its OpenAPI description, and the columns of the command derive from these classes.
Parsing ignores unknown fields, and uses the default of a missing one. So a command and an agent of different
versions understand each other.
"""
