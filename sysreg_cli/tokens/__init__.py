"""Registry tokens: who gets which, and when.

The token server and the agent issue them with these modules:

    access          one entry of a token
    scope           parses the scopes that clients ask for
    grants          who may do what with which repository
    signer          signs tokens
    claims          what is in a token, unchecked
    times           the times in a token, and whether a clock is why it was refused
    rollover_files  the files of a rollover of the token-signing key
    write_lock      stops the issue of write tokens while a collection runs
"""
