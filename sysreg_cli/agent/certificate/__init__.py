"""Installing certificates (docs/contracts.rst, "Certificate"). The single steps are in ``host``.

api          the calls of the API
installer    checks what is to be installed, says what would change, and installs it
authorities  removes CA certificates, and restarts the daemons that trusted them
history      which certificates were installed, when, and by whom
requests     pending requests, whose keys were made here
transaction  the change of the registry's certificate, with its states
"""
