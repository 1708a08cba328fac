"""``sysreg-token-server``: issues registry tokens to Keystone users (docs/contracts.rst, "Tokens").

A request passes through the modules in this order:

    main              puts the components together and serves
    app               the HTTP API
    credentials       parses the credentials of a request
    authenticator     from credentials to an identity: cache, guard, Keystone
    credential_cache  credentials that Keystone accepted lately, and their fingerprints
    lockout_guard     credentials that Keystone refused
    keystone          asks Keystone
    issuer            from an identity to a token, with the write lock
    gate              waits for the write lock
    decision_log      writes one line for each decision
"""
