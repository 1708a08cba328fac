"""``sysreg-token-server``: issues registry tokens to Keystone users (docs/contracts.rst, "Tokens").

main              puts the components together and serves
app               the HTTP API, and one log line for each decision
credentials       parses the credentials of a request
authenticator     from credentials to an identity: cache, guard, Keystone
keystone          asks Keystone
credential_cache  credentials that Keystone accepted lately
lockout_guard     credentials that Keystone refused
refusal_store     the guard's database
fingerprints      keyed hashes of credentials
issuer            from an identity to a token, with the write lock
gate              waits for the write lock
decision_log      writes log lines together
"""
