"""What changes files and services of this host. ``agent`` and ``deploy`` build on it.

files             files that are replaced atomically and durably
failpoint         places at which a test makes a process fail
ownership         the rights of the user to whom a storage belongs
locks             one change of services at a time, and one sysreg-deploy
journal           the record of a change under way, for the process that comes after a crash
generations       key and chain of each certificate, and the link that says which are in use
anchors           whom docker and containerd trust for the registry
system_bundle     which CA certificates the whole host trusts
clients           which of docker and containerd run here, and have to be restarted to trust a CA
idle              lets a thread work only while nothing else wants to
processes         which processes listen at a port, or hold a lock
connections       lets new connections wait while a listener restarts
services          restarts and reloads, through the configured commands
unit_environment  with which environment systemd starts a unit
registry_config   the registry's config.yml, and the environment that overrides it
probe             what the live services present, and whether they work
"""
