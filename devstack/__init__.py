"""The embedded controller: real Keystone, real docker-registry, our daemons, on loopback, under supervisor.

``python -m devstack up|down`` is behind ``make run`` and ``make stop``; the tests start the same stack on
free ports through ``devstack.controller.Controller``. With HOSTS there are also etcd,
and workers in namespaces of their own. Nothing here is installed.
"""
