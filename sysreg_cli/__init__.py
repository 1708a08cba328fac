"""sysreg: the local Docker registry of a Kubernetes edge controller, its command and its daemons."""

# Kept equal to setup.cfg by a test: reading it from importlib.metadata would cost the CLI some 40 ms a start.
__version__ = "0.1.0"
