"""The registry's certificate on this controller (docs/contracts.rst, "Certificate").

``generations`` keeps key and chain on the disk, ``trust`` tells docker, containerd and the system, ``probe``
looks at what the live endpoints present, ``transaction`` changes all of it or nothing, ``api`` serves it.
"""
