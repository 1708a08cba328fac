"""sysreg: the local Docker registry of a Kubernetes edge controller, its command and its daemons."""

# setup.cfg reads the version from here. importlib.metadata would cost the command 40 ms at each start.
__version__ = "0.2.0"
