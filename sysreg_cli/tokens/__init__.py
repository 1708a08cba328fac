"""Registry tokens: who gets which, and when.

access      one entry of a token: a resource and the actions on it
scope       parses what clients ask for
grants      who may do what with which repository
signer      signs tokens
write_lock  stops the issue of write tokens while a collection runs
"""
