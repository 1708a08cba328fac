"""Installing certificates (docs/contracts.rst, "Certificate"). The single steps are in ``host``.

api          the calls of the API
transaction  the change of the registry's certificate, with its states
reminder     the daily warning before it expires
"""
